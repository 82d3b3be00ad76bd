package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/spf13/cobra"
)

// pxarInput names an archive that is one file or a pair of files.
type pxarInput struct {
	archive string // "-": standard input
	payload string // "": none, or the one beside the archive; "-": standard input
}

func (o *pxarInput) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.payload, "payload-input", "", "the file with the contents of a split archive (default: NAME.ppxar beside NAME.mpxar)")
	complete(cmd, "payload-input", filesEndingIn("ppxar"))
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return []string{"pxar", "mpxar"}, cobra.ShellCompDirectiveFilterFileExt
		}
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
}

func filesEndingIn(endings ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// check refuses what cannot be opened, and finds the payload file.
func (o *pxarInput) check() error {
	switch {
	case strings.HasSuffix(o.archive, ".ppxar"):
		return hint(usagef("%s holds contents without names", o.archive), "name the .mpxar file, and this one with --payload-input")
	case o.archive == "-" && o.payload == "-":
		return usagef("archive and payload cannot both come from standard input")
	case o.payload != "" || !strings.HasSuffix(o.archive, ".mpxar"):
		return nil
	}
	beside := strings.TrimSuffix(o.archive, ".mpxar") + ".ppxar"
	if _, err := os.Stat(beside); err == nil {
		o.payload = beside
	}
	return nil
}

// opened are files that are read.
type opened []*os.File

// Close closes them.
func (o opened) Close() error {
	for _, f := range o {
		_ = f.Close() // was only read
	}
	return nil
}

// pxarStream is an archive read in a row.
type pxarStream struct {
	*pxar.Reader
	opened
	name string
}

// openPxar opens an archive for reading in a row. Pipes are fine.
func (a *app) openPxar(o pxarInput) (_ *pxarStream, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &pxarStream{name: o.archive}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	archive, err := s.open(a, o.archive)
	if err != nil {
		return nil, err
	}
	var payload io.Reader // stays nil without one
	if o.payload != "" {
		if payload, err = s.open(a, o.payload); err != nil {
			return nil, err
		}
	}
	if s.Reader, err = pxar.NewReader(archive, payload); err != nil {
		return nil, explainPxar(s.name, err)
	}
	return s, nil
}

func (s *pxarStream) open(a *app, path string) (io.Reader, error) {
	if path == "-" {
		return a.Stdin, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, pathError(err)
	}
	s.opened = append(s.opened, f)
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = hint(fmt.Errorf("%s is a directory, not an archive", path), "'create' makes an archive of it")
	}
	return f, err
}

// explainPxar says which archive an error is about.
func explainPxar(name string, err error) error {
	switch {
	case errors.Is(err, pxar.ErrFormat):
		return hint(fmt.Errorf("%s: %w", name, err), "'holdfast debug inspect FILE' shows an archive item by item")
	case errors.Is(err, pxar.ErrNoPayload):
		return hint(fmt.Errorf("%s: %w", name, err), "it is a split archive: name its .ppxar file with --payload-input")
	}
	return fmt.Errorf("%s: %w", name, err)
}

// pxarFile is an archive that can be read at any offset.
type pxarFile struct {
	*pxar.Archive
	opened
	hasPayload bool
}

// openPxarFile opens an archive that is a file, or a pair of files.
func openPxarFile(o pxarInput) (_ *pxarFile, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.archive == "-" || o.payload == "-" {
		return nil, hint(usagef("standard input can be read in a row only"), "save the archive to a file")
	}
	f := new(pxarFile)
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	archive, size, err := f.open(o.archive)
	if err != nil {
		return nil, err
	}
	var payload io.ReaderAt // stays nil without one
	var payloadSize int64
	if o.payload != "" {
		if payload, payloadSize, err = f.open(o.payload); err != nil {
			return nil, err
		}
		f.hasPayload = true
	}
	if f.Archive, err = pxar.OpenArchive(archive, size, payload, payloadSize); err != nil {
		return nil, explainPxar(o.archive, err)
	}
	return f, nil
}

func (f *pxarFile) open(path string) (io.ReaderAt, int64, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, 0, err
	}
	f.opened = append(f.opened, file)
	return file, size, nil
}
