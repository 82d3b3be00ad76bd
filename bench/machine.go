//go:build linux

package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// warm reads an image's data once, so that it is in the page cache.
func warm(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for off := int64(0); ; {
		start, end, ok, err := nextData(f, off)
		if err != nil || !ok {
			return err
		}
		if _, err := io.Copy(io.Discard, onlyReader{io.NewSectionReader(f, start, end-start)}); err != nil {
			return err
		}
		off = end
	}
}

// onlyReader keeps io.Copy to its own small buffer.
type onlyReader struct{ io.Reader }

// weigh returns the sum of the files' sizes below a path, and what they and
// their directories occupy.
func weigh(root string) (bytes, disk int64, err error) {
	err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			disk += st.Blocks * 512
		}
		if info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes, disk, err
}
