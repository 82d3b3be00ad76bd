package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
)

func (sh *shell) stat(ctx context.Context, args shellArgs) error {
	return sh.each(ctx, sh.full, args.words, func(path string, e *browse.Entry) error {
		to, err := sh.full.Target(*e)
		if err != nil {
			return err
		}
		if sh.a.format.IsJSON() {
			return sh.a.format.WriteJSON(sh.out, statOf(path, e.File, to.File))
		}
		return writeStat(sh.out, path, e.File, to.File)
	})
}

// statEntry is all that an archive knows of an entry. A hard link has the metadata
// of its file.
type statEntry struct {
	pxarEntry
	Flags        []string    `json:"flags,omitempty"`
	Project      uint64      `json:"project-id,omitempty"`
	Capabilities []byte      `json:"capabilities,omitempty"`
	Xattrs       []xattrJSON `json:"xattrs,omitempty"`
	ACL          []string    `json:"acl,omitempty"`
}

type xattrJSON struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

func statOf(path string, e, to *pxar.Entry) statEntry {
	out := statEntry{
		pxarEntry: pxarEntryOf(ui.Path(path), to), Flags: flagNames(to.Flags), Project: to.ProjectID,
		Capabilities: to.FCaps, ACL: aclLines(to),
	}
	if e.Kind == pxar.Hardlink {
		link := pxarEntryOf("", e)
		out.Type, out.Target = link.Type, link.Target
	}
	for _, x := range to.Xattrs {
		out.Xattrs = append(out.Xattrs, xattrJSON{ui.Path(x.Name), x.Value})
	}
	return out
}

func writeStat(w io.Writer, path string, e, to *pxar.Entry) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s%s\n", name, fmt.Sprintf(format, args...))
	}
	row("Path", "%s", ui.Path(path))
	row("Type", "%s", e.Kind)
	switch e.Kind {
	case pxar.Hardlink:
		row("Link to", "/%s", ui.Path(e.Target))
	case pxar.Symlink:
		row("Target", "%s", ui.Path(e.Target))
	case pxar.CharDevice, pxar.BlockDevice:
		row("Device", "%d,%d", e.Device.Major, e.Device.Minor)
	}
	if to.Kind == pxar.File {
		row("Size", "%d", to.Size)
	}
	row("Mode", "%04o  %s", to.Mode&^pxar.ModeType, ui.Mode(to.Mode))
	row("Owner", "%d/%d", to.UID, to.GID)
	row("Modified", "%s", to.Mtime.Time().UTC().Format(time.RFC3339Nano))
	if flags := flagNames(to.Flags); len(flags) > 0 {
		row("Flags", "%s", join(flags))
	}
	if to.ProjectID != 0 {
		row("Project", "%d", to.ProjectID)
	}
	if to.FCaps != nil {
		row("Capabilities", "%s", hex.EncodeToString(to.FCaps))
	}
	for _, x := range to.Xattrs {
		row("Attribute", "%s = %s", words.Quote(x.Name), words.Quote(string(x.Value)))
	}
	for _, line := range aclLines(to) {
		row("ACL", "%s", line)
	}
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

// flagNames are the words for a file's flags, those of lsattr.
func flagNames(flags uint64) (names []string) {
	for _, f := range [...]struct {
		bit  uint64
		name string
	}{
		{pxar.FlagHidden, "hidden"},
		{pxar.FlagSystem, "system"},
		{pxar.FlagArchive, "archive"},
		{pxar.FlagAppend, "append-only"},
		{pxar.FlagNoAtime, "no-atime"},
		{pxar.FlagCompress, "compress"},
		{pxar.FlagNoCOW, "no-cow"},
		{pxar.FlagNoDump, "no-dump"},
		{pxar.FlagDirSync, "dirsync"},
		{pxar.FlagImmutable, "immutable"},
		{pxar.FlagSync, "sync"},
		{pxar.FlagNoCompress, "no-compress"},
		{pxar.FlagProjectInherit, "project-inherit"},
	} {
		if flags&f.bit != 0 {
			names = append(names, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%#x", flags))
	}
	return names
}

// aclLines are the ACLs of an entry as getfacl prints them; nothing if they say no
// more than the mode.
func aclLines(e *pxar.Entry) (lines []string) {
	if text := filemeta.AccessText(&e.Metadata); text != "" {
		lines = strings.Split(text, ",")
	}
	if text := filemeta.DefaultText(&e.Metadata); text != "" {
		for line := range strings.SplitSeq(text, ",") {
			lines = append(lines, "default:"+line)
		}
	}
	return lines
}
