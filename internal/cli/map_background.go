package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/mapping"
)

// endedError is the exit code of the process that did the work, which has said
// everything itself.
type endedError int

func (e endedError) Error() string { return fmt.Sprintf("ended with exit code %d", int(e)) }

func ended(code int) error {
	if code == exitOK {
		return nil
	}
	return endedError(code)
}

// descriptors are those that a key or password is to be read from.
func (a *app) descriptors(o keyOptions) (all []int) {
	if o.keyfd >= 0 {
		all = append(all, o.keyfd)
	}
	for _, name := range []string{"HOLDFAST_ENCRYPTION_PASSWORD_FD", "PBS_ENCRYPTION_PASSWORD_FD", "HOLDFAST_PASSWORD_FD", "PBS_PASSWORD_FD", "HOLDFAST_S3_SECRET_KEY_FD", "PBS_S3_SECRET_KEY_FD"} {
		if fd, err := strconv.Atoi(a.getenv(name)); err == nil {
			all = append(all, fd)
		}
	}
	return all
}

// toBackground lets the command that waits end. What happens from then on is
// in a log file, which is removed in the end if nothing happened.
func (a *app) toBackground(child *daemon.Child, name string) (done func(), err error) {
	log, err := a.backgroundLog(name)
	if err != nil {
		a.warn("what goes wrong later is not noted: %v", err)
	}
	done = func() {
		if log == nil {
			return
		}
		if info, err := log.Stat(); err == nil && info.Size() == 0 {
			_ = os.Remove(log.Name()) // nothing in it
		}
		_ = log.Close()
	}
	if err := child.Ready(log); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

func (a *app) backgroundLog(name string) (*os.File, error) {
	dir, err := a.stateDir("log")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func isReadOnly(s mapping.Spec) bool {
	_, writable := s.Image.(image.Device)
	return s.ReadOnly || !writable
}
