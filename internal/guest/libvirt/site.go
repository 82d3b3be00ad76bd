package libvirt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// site is where the point of a domain for one group lives on this host.
type site struct {
	lock  *os.File
	dir   string // for QEMU's socket
	stale bool   // a run before this one died
}

// errLocked is returned by tryLock when another process has the lock.
var errLocked = errors.New("locked")

// enter locks the site. A directory that is there already tells of a run that
// died, for runs that end remove it.
func (g *Guest) enter(owner guest.Owner) (*site, error) {
	if err := makeReachable(g.opts.RunDir); err != nil {
		return nil, fmt.Errorf("make the directory for sockets: %w", err)
	}
	s := &site{dir: filepath.Join(g.opts.RunDir, string(owner)+"-"+g.UUID())}
	if len(s.socket()) > nbdserver.MaxSocketPath {
		return nil, fmt.Errorf("the path of a socket, %s, would be longer than systems allow: name a directory with a shorter path", s.socket())
	}
	var err error
	if s.lock, err = lockFile(s.dir + ".lock"); err != nil {
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("domain %s: %w by another process, which has %s.lock", g.dom.Name, ErrBusy, s.dir)
		}
		return nil, fmt.Errorf("lock domain %s: %w", g.dom.Name, err)
	}
	_, err = os.Lstat(s.dir)
	s.stale = err == nil
	return s, nil
}

// lockFile makes a file and locks it. Who unlocks it removes it first.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err = tryLock(f); err == nil && sameFile(f) {
			return f, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// unlockFile removes and unlocks it.
func unlockFile(f *os.File) error { return errors.Join(os.Remove(f.Name()), f.Close()) }

// sameFile reports whether the file still has its name: who had the lock before
// may have removed it.
func sameFile(f *os.File) bool {
	has, herr := f.Stat()
	named, nerr := os.Stat(f.Name())
	return herr == nil && nerr == nil && os.SameFile(has, named)
}

// open makes the directory for QEMU's socket anew.
func (s *site) open(uid, gid int, known bool) error {
	err := s.clear()
	if err == nil {
		err = os.Mkdir(s.dir, 0o700)
	}
	if err == nil && known && os.Geteuid() == 0 {
		err = os.Chown(s.dir, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("make the directory for QEMU's socket: %w", err)
	}
	return nil
}

// socket is where QEMU listens.
func (s *site) socket() string { return filepath.Join(s.dir, "nbd") }

func (s *site) clear() error {
	for _, name := range []string{s.socket(), s.dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// leave removes what is there of the site and unlocks it. err goes first.
func (s *site) leave(err error) error {
	return errors.Join(err, s.clear(), unlockFile(s.lock))
}
