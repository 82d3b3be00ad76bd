package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/holdfast-backup/holdfast/internal/format/inspect"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/spf13/cobra"
)

func newDebugCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Look inside files",
		Long:    `Tools for looking at single files of a repository. They change nothing.`,
		Example: `  holdfast debug inspect /mnt/backup/vm/100/2026-11-22T10:00:00Z/disk.img.fidx`,
	}
	var entries int
	inspectCmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Explain a file of the format byte by byte",
		Long: `Prints what lies at which offset of a file, in hex and in words, and marks with
"<--" what is not as it should be. It knows chunks and blobs (with the manifest
or key inside), fixed and dynamic indexes, key files, .gc-status, and headers of
qcow2 images. A key itself is never shown.

Exit code 4: something in the file is not as it should be.`,
		Example: `  holdfast debug inspect /mnt/backup/vm/100/2026-11-22T10:00:00Z/index.json.blob
  holdfast debug inspect disk.img.fidx --entries -1
  holdfast debug inspect disk.qcow2 --output-format json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(cmd.Context(), a, args[0], inspect.Options{Entries: entries})
		},
	}
	inspectCmd.Flags().IntVar(&entries, "entries", 0, "entries of an index that are shown (0: the first 8 and the last; -1: all)")
	cmd.AddCommand(inspectCmd)
	return cmd
}

type inspectedJSON struct {
	File     string      `json:"file"`
	Kind     string      `json:"kind"`
	Size     int64       `json:"size"`
	Problems int         `json:"problems"`
	Fields   []fieldJSON `json:"fields"`
}

type fieldJSON struct {
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Hex     string `json:"hex,omitempty"`
	Name    string `json:"name"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// openRegular opens a file for reading and refuses what has no size.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, pathError(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory, not a file", path)
	}
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd) // a block device has a size too
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, pathError(err)
	}
	return f, size, nil
}

func runInspect(ctx context.Context, a *app, path string, o inspect.Options) error {
	if s3.IsAddress(path) {
		return hint(usagef("inspect %s: it reads files, and this is the address of a bucket", path), "get the object with a tool of the provider, and inspect the file")
	}
	f, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	out := inspectedJSON{File: path, Size: size, Fields: []fieldJSON{}}
	rep, err := inspect.File(f, size, o, func(field inspect.Field) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if a.format.IsJSON() {
			out.Fields = append(out.Fields, fieldJSON{
				field.Offset, field.Length, hex.EncodeToString(field.Raw), field.Name, field.Value, field.Problem,
			})
			return nil
		}
		return a.printf("%s\n", field.Line())
	})
	if err != nil {
		return fmt.Errorf("inspect %s: %w", path, err)
	}
	out.Kind, out.Problems = rep.Kind, rep.Problems
	err = a.print(out, func() error { return a.printf("%s: %s, %d bytes\n", path, rep.Kind, size) })
	if err == nil && rep.Problems > 0 {
		err = mark(errDamaged, "%s is not as it should be: %d faults, marked with <--", path, rep.Problems)
	}
	return err
}

// pathError says in one sentence what a system call has against a path.
func pathError(err error) error {
	pe, ok := errors.AsType[*os.PathError](err)
	if !ok {
		return err
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return hint(fmt.Errorf("%s does not exist", pe.Path), "check the path")
	case errors.Is(err, os.ErrPermission):
		return hint(fmt.Errorf("%s may not be read (%w)", pe.Path, pe.Err), "run as a user who may, or change its permissions")
	}
	return fmt.Errorf("%s: %w", pe.Path, pe.Err)
}
