package kmod

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ulikunitz/xz"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// maxModule bounds a module's plain size: the largest of Debian's have 10 MiB.
const maxModule = 64 << 20

// read returns a module file's plain bytes.
func read(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	switch filepath.Ext(name) {
	case ".xz":
		r, err := xz.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return readAll(name, r)
	case ".gz":
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return readAll(name, r)
	case ".zst":
		return unzstd(name, b)
	}
	return b, nil
}

func readAll(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(b) > maxModule:
		return nil, fmt.Errorf("%s: more than %d MiB", name, maxModule>>20)
	}
	return b, nil
}

func unzstd(name string, b []byte) ([]byte, error) {
	d, err := zstd.NewDecoder()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	size, ok := zstd.ContentSize(b)
	if !ok {
		size = zstd.MaxPlain(len(b))
	}
	plain := make([]byte, min(size, maxModule))
	n, err := d.Decompress(plain, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return plain[:n], nil
}
