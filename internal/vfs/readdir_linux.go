package vfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Layout of linux_dirent64: inode 8, offset 8, record length 2, type 1, name.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

// ReadDir implements [FS].
func (o *OS) ReadDir(name string) ([]DirEntry, error) {
	fd, err := o.openAt(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, o.fail("list", name, err)
	}
	list, err := readDir(fd)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, o.fail("list", name, err)
	}
	slices.SortFunc(list, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func readDir(fd int) ([]DirEntry, error) {
	var list []DirEntry
	buf := make([]byte, 32<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil || n == 0 {
			return list, err
		}
		for b := buf[:n]; len(b) > 0; {
			size := int(binary.NativeEndian.Uint16(b[direntLen:]))
			if size <= direntName || size > len(b) {
				return nil, fmt.Errorf("directory record of %d bytes in %d", size, len(b))
			}
			name := b[direntName:size]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			kind := b[direntType]
			b = b[size:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			e := DirEntry{Name: string(name)}
			e.Type, err = entryType(fd, e.Name, kind)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since
			}
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
}

// entryType turns d_type into mode bits, and asks where the file system did
// not say.
func entryType(dir int, name string, kind byte) (fs.FileMode, error) {
	if kind != unix.DT_UNKNOWN {
		return typeOf(uint32(kind) << 12), nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	return typeOf(st.Mode), nil
}
