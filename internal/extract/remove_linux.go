package extract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// errMount is why something is not deleted.
var errMount = errors.New("not deleted: something is mounted there")

// maxRemove is how many directories are open at a time while a tree is removed.
const maxRemove = 64

// purge removes from a directory what the archive does not have.
func (r *run) purge(d *dir) {
	slices.Sort(d.names)
	if d.parent != nil && isMount(d.fd, d.parent.dev) {
		r.leftover(d, "", errMount)
		return
	}
	err := eachName(d.fd, func(name string) bool {
		_, wanted := slices.BinarySearch(d.names, pxar.NameHash(name))
		return !wanted && !strings.HasPrefix(name, r.names.prefix) // files that are being made
	}, func(name string) bool {
		if err := r.removeAt(d, name); err != nil {
			r.leftover(d, name, err)
			return false
		}
		return true
	})
	if err != nil {
		r.leftover(d, "", err)
	}
	d.names = nil
}

func (r *run) leftover(d *dir, name string, err error) {
	r.left++
	r.tell(Problem{d.pathOf(name), 0, err})
}

// removeAt removes whatever has this name.
func (r *run) removeAt(d *dir, name string) error {
	err := unix.Unlinkat(d.fd, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		r.deleted++
		return nil
	case errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM):
		if terr := r.removeTree(d, name); !errors.Is(terr, unix.ENOTDIR) {
			return terr
		}
	}
	return err
}

// removeTree removes a directory with all that is in it, but nothing that is
// mounted below it.
func (r *run) removeTree(d *dir, name string) error {
	t := remover{run: r, top: d.fd, dev: d.dev}
	err := t.tree(d.fd, name, 0)
	for len(t.deep) > 0 && err == nil {
		next := t.deep[len(t.deep)-1]
		t.deep = t.deep[:len(t.deep)-1]
		err = t.tree(d.fd, next, 0)
	}
	return err
}

type remover struct {
	run  *run
	top  int
	dev  uint64
	deep []string // trees that were moved to the top, since they are far down
}

func (t *remover) tree(dir int, name string, depth int) error {
	if depth == maxRemove {
		temp := t.run.names.next()
		if err := unix.Renameat(dir, name, t.top, temp); err != nil {
			return err
		}
		t.deep = append(t.deep, temp)
		return nil
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	if isMount(fd, t.dev) {
		return errMount
	}
	var first error
	err = eachName(fd, func(string) bool { return true }, func(name string) bool {
		err := unix.Unlinkat(fd, name, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			if terr := t.tree(fd, name, depth+1); !errors.Is(terr, unix.ENOTDIR) {
				err = terr
			}
		} else if err == nil {
			t.run.deleted++
		}
		if err != nil && first == nil {
			first = fmt.Errorf("%.80q in it: %w", name, err)
		}
		return err == nil
	})
	if err = errors.Join(first, err); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil {
		return err
	}
	t.run.deleted++
	return nil
}

// isMount reports whether an open directory, whose parent lies on the device
// dev, is where something is mounted.
func isMount(fd int, dev uint64) bool {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st); err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	var old unix.Stat_t
	return unix.Fstat(fd, &old) != nil || uint64(old.Dev) != dev //nolint:unconvert // narrower on some machines
}

// eachName calls remove for the names in a directory that doomed is true for,
// until none is left or remove has refused all of them. Memory is for a few names.
func eachName(fd int, doomed, remove func(string) bool) error {
	const most = 4096
	buf := make([]byte, 32<<10)
	refused := map[string]bool{}
	for {
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return err
		}
		var names []string
		for len(names) < most {
			n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			var some []string
			_, _, some = unix.ParseDirent(buf[:n], -1, nil)
			for _, name := range some {
				if doomed(name) && !refused[name] {
					names = append(names, name)
				}
			}
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if !remove(name) {
				refused[name] = true
			}
		}
	}
}
