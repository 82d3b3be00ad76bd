package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type pxarListOptions struct {
	in      pxarInput
	verbose bool
}

func newPxarListCommand(a *app) *cobra.Command {
	var o pxarListOptions
	cmd := &cobra.Command{
		Use:   "list ARCHIVE",
		Short: "List what is in an archive",
		Long: `Prints the paths of all entries in the order of the archive, one a line; with
--verbose also mode, owner and group, size or device number, time, and where
links lead. What could confuse a terminal is escaped: a line feed is \n, a
backslash \\, other bytes a backslash and three octal digits.

The whole archive is read in a row and checked, but for the contents of files; so
ARCHIVE may be -, standard input. A split archive is listed without its contents.`,
		Example: `  holdfast pxar list home.pxar
  holdfast pxar list root.mpxar --verbose
  ssh host cat backup.pxar | holdfast pxar list - --output-format json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in.archive = args[0]
			return runPxarList(cmd.Context(), a, o)
		},
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "print metadata too")
	o.in.add(cmd)
	return cmd
}

func runPxarList(ctx context.Context, a *app, o pxarListOptions) error {
	s, err := a.openPxar(o.in)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // was only read
	out := bufio.NewWriterSize(a.Stdout, 64<<10)
	list := a.format.NewList(out)
	show := func(e *pxar.Entry) error {
		path := ui.Path(pxar.Join(s.Path()))
		switch {
		case a.format.IsJSON():
			return list.Add(pxarEntryOf(path, e))
		case o.verbose:
			path = pxarLine(path, e)
		}
		_, err := fmt.Fprintln(out, path)
		return err
	}
	if err := eachEntry(ctx, s, show); err != nil {
		_ = out.Flush() // of a damaged archive what could be read is shown
		return err
	}
	if a.format.IsJSON() {
		err = list.Close()
	}
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	a.tellFlaws(s.Reader, o.in.archive)
	return nil
}

// eachEntry reads an archive to its end.
func eachEntry(ctx context.Context, s *pxarStream, show func(*pxar.Entry) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		e, err := s.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return explainPxar(s.name, err)
		case e.Kind == pxar.End:
			continue
		}
		if err := show(e); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
}

// pxarLine is an entry as in the listings of tar.
func pxarLine(path string, e *pxar.Entry) string {
	if e.Kind == pxar.Hardlink { // it has no metadata of its own
		return fmt.Sprintf("h--------- %-11s %10s %-20s %s link to /%s", "-", "-", "-", path, ui.Path(e.Target))
	}
	size := "-"
	switch e.Kind {
	case pxar.File:
		size = fmt.Sprint(e.Size)
	case pxar.CharDevice, pxar.BlockDevice:
		size = fmt.Sprintf("%d,%d", e.Device.Major, e.Device.Minor)
	case pxar.Symlink:
		path += " -> " + ui.Path(e.Target)
	}
	owner := fmt.Sprintf("%d/%d", e.UID, e.GID)
	return fmt.Sprintf("%s %-11s %10s %s %s", ui.Mode(e.Mode), owner, size, e.Mtime.Time().UTC().Format(time.RFC3339), path)
}

// pxarEntry is an entry as --output-format json shows it.
type pxarEntry struct {
	Path   string  `json:"path"` // escaped as in the text
	Type   string  `json:"type"`
	Mode   string  `json:"mode,omitempty"` // permissions in octal digits
	UID    *uint32 `json:"uid,omitempty"`
	GID    *uint32 `json:"gid,omitempty"`
	Mtime  *int64  `json:"mtime,omitempty"` // seconds since 1970
	Nsec   uint32  `json:"mtime-nsec,omitempty"`
	Size   *int64  `json:"size,omitempty"`   // of files
	Target string  `json:"target,omitempty"` // of links; of hard links a path from the root
	Major  *uint64 `json:"major,omitempty"`  // of devices
	Minor  *uint64 `json:"minor,omitempty"`
}

func pxarEntryOf(path string, e *pxar.Entry) pxarEntry {
	out := pxarEntry{Path: path, Type: e.Kind.String(), Target: ui.Path(e.Target)}
	if e.Kind == pxar.Hardlink {
		out.Target = "/" + strings.TrimPrefix(out.Target, "/")
		return out
	}
	out.Mode = fmt.Sprintf("%04o", e.Mode&^pxar.ModeType)
	out.UID, out.GID, out.Mtime, out.Nsec = &e.UID, &e.GID, &e.Mtime.Sec, e.Mtime.Nsec
	switch e.Kind {
	case pxar.File:
		out.Size = &e.Size
	case pxar.CharDevice, pxar.BlockDevice:
		out.Major, out.Minor = &e.Device.Major, &e.Device.Minor
	}
	return out
}
