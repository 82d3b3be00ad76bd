//go:build initbin

package initbin

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

//go:embed init-*.gz
var programs embed.FS

// Program is a static program for Linux on a kind of processor, or nil.
func Program(arch string) ([]byte, error) {
	b, err := programs.ReadFile("init-" + arch + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(z)
	}
	if err != nil {
		return nil, fmt.Errorf("the restore machine's program for %s: %w", arch, err)
	}
	return b, nil
}
