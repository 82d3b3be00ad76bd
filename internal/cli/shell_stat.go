package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/browse"
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
	a := e.ACL
	if a == nil {
		return nil
	}
	mode := pxar.Perm(e.Mode)
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if a.GroupObj != nil || len(a.Users) > 0 || len(a.Groups) > 0 {
		add("user::%s", perm(mode>>6))
		for _, u := range a.Users {
			add("user:%d:%s", u.ID, perm(u.Perm))
		}
		group := mode >> 3
		if a.GroupObj != nil {
			group = *a.GroupObj
		}
		add("group::%s", perm(group))
		for _, g := range a.Groups {
			add("group:%d:%s", g.ID, perm(g.Perm))
		}
		if a.GroupObj != nil {
			add("mask::%s", perm(mode>>3))
		}
		add("other::%s", perm(mode))
	}
	base := func(name string, p pxar.Perm) {
		if p != pxar.NoPerm {
			add("default:%s::%s", name, perm(p))
		}
	}
	d := a.Default
	if d == nil {
		d = &pxar.ACLDefault{UserObj: pxar.NoPerm, GroupObj: pxar.NoPerm, Mask: pxar.NoPerm, Other: pxar.NoPerm}
	}
	base("user", d.UserObj)
	for _, u := range a.DefaultUsers {
		add("default:user:%d:%s", u.ID, perm(u.Perm))
	}
	base("group", d.GroupObj)
	for _, g := range a.DefaultGroups {
		add("default:group:%d:%s", g.ID, perm(g.Perm))
	}
	base("mask", d.Mask)
	base("other", d.Other)
	return lines
}

// perm is the last three bits as "rwx".
func perm(p pxar.Perm) string { return ui.Mode(uint32(p & 7))[7:] }
