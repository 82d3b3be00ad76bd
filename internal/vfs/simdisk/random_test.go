package simdisk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// actor does random things to a file system.
type actor struct {
	v     vfs.FS
	rng   *rand.Rand
	files []vfs.File
}

func newActor(v vfs.FS, seed uint64) *actor {
	return &actor{v: v, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (a *actor) name() string {
	n := ""
	for range 1 + a.rng.IntN(3) {
		n = path.Join(n, string(rune('a'+a.rng.IntN(4))))
	}
	return n
}

// step does one thing and tells what, and how it went.
func (a *actor) step() string {
	r := a.rng
	switch k := r.IntN(22); {
	case k < 3:
		n := a.name()
		return fmt.Sprintf("mkdir %s: %s", n, class(a.v.Mkdir(n, 0o755)))
	case k < 7:
		n := a.name()
		f, err := a.v.Create(n, 0o644)
		if err == nil {
			a.files = append(a.files, f)
		}
		return fmt.Sprintf("create %s: %s", n, class(err))
	case k < 10:
		from, to := a.name(), a.name()
		return fmt.Sprintf("rename %s %s: %s", from, to, class(a.v.Rename(from, to)))
	case k < 12:
		n := a.name()
		return fmt.Sprintf("remove %s: %s", n, class(a.v.Remove(n)))
	case k < 13:
		n := a.name()
		return fmt.Sprintf("touch %s: %s", n, class(a.v.Touch(n)))
	case k < 14:
		n := a.name()
		return fmt.Sprintf("syncdir %s: %s", n, class(a.v.SyncDir(n)))
	case k < 15:
		n := a.name()
		f, err := a.v.Open(n)
		if err == nil {
			a.files = append(a.files, f)
		}
		return fmt.Sprintf("open %s: %s", n, class(err))
	case len(a.files) == 0:
		return "nothing"
	}
	i := r.IntN(len(a.files))
	f := a.files[i]
	switch r.IntN(8) {
	case 0:
		size := r.Int64N(20000)
		return fmt.Sprintf("truncate %d: %t", size, f.Truncate(size) == nil)
	case 1:
		return "sync: " + class(f.Sync())
	case 2:
		a.files = slices.Delete(a.files, i, i+1)
		return "close: " + class(f.Close())
	case 3:
		b := make([]byte, r.IntN(9000))
		n, err := f.ReadAt(b, r.Int64N(9000))
		return fmt.Sprintf("read %x: %v", bytes.TrimRight(b[:n], "\x00"), err)
	case 4:
		size, err := f.Size()
		return fmt.Sprintf("size %d: %s", size, class(err))
	case 5:
		n, err := f.Write(a.bytes())
		return fmt.Sprintf("write %d: %t", n, err == nil)
	default:
		n, err := f.WriteAt(a.bytes(), r.Int64N(15000))
		return fmt.Sprintf("write %d: %t", n, err == nil)
	}
}

func (a *actor) bytes() []byte {
	return bytes.Repeat([]byte{byte(1 + a.rng.IntN(255))}, 1+a.rng.IntN(9000))
}

func class(err error) string {
	if err == nil {
		return "ok"
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no.Error()
	}
	for _, known := range []error{fs.ErrInvalid, fs.ErrClosed, vfs.ErrNotRegular} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "other: " + err.Error()
}

// dump tells everything that is visible, without times and inodes.
func dump(v vfs.FS) (map[string]string, error) {
	seen := map[string]string{}
	var walk func(dir string) error
	walk = func(dir string) error {
		list, err := v.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			name := path.Join(dir, e.Name)
			info, err := v.Lstat(name)
			if err != nil {
				return err
			}
			if e.IsDir() {
				seen[name] = info.Mode.String()
				if err := walk(name); err != nil {
					return err
				}
				continue
			}
			f, err := v.Open(name)
			if err != nil {
				return err
			}
			b := make([]byte, info.Size)
			if n, err := f.ReadAt(b, 0); err != nil || int64(n) != info.Size {
				return fmt.Errorf("%s: %d bytes of %d: %w", name, n, info.Size, err)
			}
			seen[name] = info.Mode.String() + " " + string(b)
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	return seen, walk(".")
}
