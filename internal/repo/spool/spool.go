// Package spool holds what comes over the wire until it is used: indexes in
// files without a name, compared with the manifest before anybody sees them.
//
// An index of a large image has many megabytes, and is read at random. So it goes
// into a temporary file, which is gone when it is closed, or when the process
// ends.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// File is a temporary file.
type File struct {
	*os.File
	named bool // it must be removed
}

// Create makes an empty one.
func Create() (*File, error) {
	f, err := os.CreateTemp("", "holdfast-index-*")
	if err != nil {
		return nil, fmt.Errorf("temporary file for an index: %w", err)
	}
	// Elsewhere an open file cannot be removed.
	if runtime.GOOS != "windows" && os.Remove(f.Name()) == nil {
		return &File{File: f}, nil
	}
	return &File{File: f, named: true}, nil
}

// Close removes it.
func (f *File) Close() error {
	err := f.File.Close()
	if f.named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// Size is its length in bytes.
func (f *File) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Fixed opens the index in f and compares it with what the manifest of s says.
// f is closed with it, or at once if it does not fit.
func Fixed(f *File, s names.Snapshot, listed manifest.File) (x *fidx.Index, c io.Closer, err error) {
	defer func() {
		if err != nil {
			x, c, err = nil, nil, errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, nil, err
	}
	x, err = fidx.Open(f, size)
	if err != nil {
		return nil, nil, unfit(s, listed, err, errors.Is(err, fidx.ErrFormat))
	}
	sum, err := x.Sum()
	if err != nil {
		return nil, nil, unfit(s, listed, err, errors.Is(err, fidx.ErrFormat))
	}
	return x, f, compare(s, listed, x.Size, sum)
}

// Dynamic does the same for a dynamic index.
func Dynamic(f *File, s names.Snapshot, listed manifest.File) (x *didx.Index, c io.Closer, err error) {
	defer func() {
		if err != nil {
			x, c, err = nil, nil, errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, nil, err
	}
	x, err = didx.Open(f, size)
	if err != nil {
		return nil, nil, unfit(s, listed, err, errors.Is(err, didx.ErrFormat))
	}
	sum, err := x.Sum()
	if err != nil {
		return nil, nil, unfit(s, listed, err, errors.Is(err, didx.ErrFormat))
	}
	return x, f, compare(s, listed, uint64(x.Size()), sum)
}

// Blob compares an encoded blob with what the manifest of s says.
func Blob(raw []byte, s names.Snapshot, listed manifest.File) error {
	if err := compare(s, listed, uint64(len(raw)), digest.Of(raw)); err != nil {
		return err
	}
	if _, err := blob.Check(raw); err != nil {
		return unfit(s, listed, err, true)
	}
	return nil
}

// Manifest reads the encoded manifest of s.
func Manifest(raw []byte, s names.Snapshot) (*manifest.Manifest, error) {
	bad := func(err error) error { return &repo.CorruptError{What: "manifest of " + s.String(), Err: err} }
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	text, err := dec.Append(nil, raw, manifest.MaxSize)
	if err != nil {
		return nil, bad(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, bad(err)
	}
	if !m.Describes(s) {
		return nil, bad(fmt.Errorf("it belongs to %s/%s/%s", m.BackupType, m.BackupID, names.FormatTime(m.BackupTime)))
	}
	return m, nil
}

func compare(s names.Snapshot, listed manifest.File, size uint64, sum digest.Digest) error {
	switch {
	case size != listed.Size:
		return unfit(s, listed, fmt.Errorf("%d bytes, the manifest says %d", size, listed.Size), true)
	case sum != listed.Csum:
		return unfit(s, listed, fmt.Errorf("checksum %s, the manifest says %s", sum, listed.Csum), true)
	}
	return nil
}

// unfit tells damage from a temporary file that cannot be read.
func unfit(s names.Snapshot, listed manifest.File, err error, damage bool) error {
	what := "archive " + listed.Filename + " in " + s.String()
	if damage {
		return &repo.CorruptError{What: what, Err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}
