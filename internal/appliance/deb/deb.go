// Package deb unpacks a kernel from a Debian package file.
//
// A .deb file is an ar archive: the 8 bytes "!<arch>\n", then members, each with a head
// of 60 characters and its content, padded to an even length:
//
//	offset  size  field
//	0       16    name, padded with spaces, in some archives with a "/" at its end
//	16      32    date, owner, group, mode: not used here
//	48      10    size in decimal, padded with spaces
//	58      2     "`\n"
//
// The files are in the member data.tar, data.tar.gz or data.tar.xz. A package that uses
// another compression is refused by name (Ubuntu's packages use zstd).
//
// # Source
//
// deb(5), ar(5).
package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
)

// ErrFormat is wrapped by errors about bytes that are no Debian package.
var ErrFormat = errors.New("not a Debian package")

const (
	magic    = "!<arch>\n"
	headSize = 60
)

// Data returns a package's files as a tar stream.
func Data(r io.Reader) (*tar.Reader, error) {
	var m [len(magic)]byte
	if _, err := io.ReadFull(r, m[:]); err != nil || string(m[:]) != magic {
		return nil, fmt.Errorf("%w: no ar archive", ErrFormat)
	}
	for {
		name, size, err := member(r)
		if err != nil {
			return nil, err
		}
		if ext, ok := strings.CutPrefix(name, "data.tar"); ok {
			return open(io.LimitReader(r, size), ext)
		}
		if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, fmt.Errorf("%w: member %s is cut off", ErrFormat, name)
		}
	}
}

// member reads a member's head.
func member(r io.Reader) (name string, size int64, err error) {
	var h [headSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, fmt.Errorf("%w: no member data.tar", ErrFormat)
	}
	if !bytes.Equal(h[58:], []byte("`\n")) {
		return "", 0, fmt.Errorf("%w: a member's head ends with %x", ErrFormat, h[58:])
	}
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("%w: a member of size %q", ErrFormat, h[48:58])
	}
	return strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/"), size, nil
}

func open(r io.Reader, ext string) (*tar.Reader, error) {
	var err error
	switch ext {
	case "":
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".xz":
		r, err = xz.NewReader(bufio.NewReaderSize(r, 1<<20)) // it reads single bytes
	default:
		return nil, fmt.Errorf("the package's files are in data.tar%s, which is not supported: install the package instead", ext)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: data.tar%s: %w", ErrFormat, ext, err)
	}
	return tar.NewReader(r), nil
}
