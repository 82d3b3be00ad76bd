package vm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
	"golang.org/x/sys/unix"
)

// machine is an entry of the state map.
type machine struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // of the process, in ticks since the host booted
	Ticket string `json:"ticket"`
	Socket string `json:"socket"`
}

// registry is a run directory.
type registry struct{ dir string }

const (
	mapFile  = "machines.json"
	mapLock  = "machines.lock"
	lockPoll = 20 * time.Millisecond
)

// RunDir is where this user's machines are recorded: a directory in HOLDFAST_RUN_DIR, or a
// place of the system's.
func RunDir() (string, error) {
	if dir := os.Getenv("HOLDFAST_RUN_DIR"); dir != "" {
		return filepath.Abs(filepath.Join(dir, "file-restore"))
	}
	if os.Geteuid() == 0 {
		return "/run/holdfast/file-restore", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "holdfast", "file-restore"), nil
	}
	return "", errors.New("neither HOLDFAST_RUN_DIR nor XDG_RUNTIME_DIR is set: log in properly, or name a run directory")
}

// openRegistry makes the run directory, and refuses one that others could write to.
func openRegistry(dir string) (*registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || int(sys.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("run directory %s is not a directory of this user: name another, or remove it", dir)
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
			return nil, fmt.Errorf("run directory: %w", err)
		}
	}
	return &registry{dir}, nil
}

// lock takes a lock of the directory. Its file is removed with it, so that who has
// waited looks whether it is still the one that has the name.
func (r *registry) lock(ctx context.Context, name string) (unlock func(), err error) {
	path := filepath.Join(r.dir, name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		here, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err == nil && err1 == nil && err2 == nil && os.SameFile(here, there) {
			return func() {
				_ = os.Remove(path) // before the lock is given back
				_ = f.Close()
			}, nil
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another command has the restore machine started: %w", context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// change lets f change the state map, from which machines that are gone have been
// dropped. It is written only if it became another one.
func (r *registry) change(ctx context.Context, f func(map[string]machine)) error {
	unlock, err := r.lock(ctx, mapLock)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(r.dir, mapFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state of restore machines: %w", err)
	}
	all := map[string]machine{}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("state of restore machines: %s is damaged: %w: end the machines (holdfast file-restore processes) and remove it", path, err)
		}
	}
	for name, m := range all {
		if !m.alive() {
			delete(all, name)
			_ = os.Remove(m.Socket) // most likely its process did
		}
	}
	f(all)
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if b = append(b, '\n'); string(b) == string(old) {
		return nil
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("state of restore machines: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("state of restore machines: %w", err)
	}
	return nil
}

// find returns the entry of a name.
func (r *registry) find(ctx context.Context, name string) (m machine, ok bool, err error) {
	err = r.change(ctx, func(all map[string]machine) { m, ok = all[name] })
	return m, ok, err
}

// drop removes an entry, unless it is another machine's by now.
func (r *registry) drop(ctx context.Context, name string, m machine) error {
	return r.change(ctx, func(all map[string]machine) {
		if all[name] == m {
			delete(all, name)
		}
	})
}

// short is a name as that of a file.
func short(name string) string {
	h := sha256.Sum256([]byte(name))
	return hex.EncodeToString(h[:8])
}

func (r *registry) socket(name string) string { return filepath.Join(r.dir, short(name)+".sock") }

func newMachine(socket string) (machine, error) {
	start, err := process.Start(os.Getpid())
	return machine{PID: os.Getpid(), Start: start, Ticket: rand.Text(), Socket: socket}, err
}

// alive reports whether the process is the one with that number.
func (m machine) alive() bool { return process.Runs(m.PID, m.Start) }

// kill ends the machine's process, and waits a while for its end.
func (m machine) kill() error {
	if err := process.Kill(m.PID, m.Start); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); m.alive() && time.Now().Before(end); time.Sleep(lockPoll) {
	}
	return nil
}
