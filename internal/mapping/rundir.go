package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// RunDir is where this user's mappings are recorded: HOLDFAST_RUN_DIR, or a
// place of the system's.
func RunDir() (string, error) {
	if dir := os.Getenv("HOLDFAST_RUN_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/run/holdfast/map", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "holdfast", "map"), nil
	}
	return "", errors.New("neither HOLDFAST_RUN_DIR nor XDG_RUNTIME_DIR is set: log in properly, or name a run directory")
}

// checkDir makes the run directory, and refuses one that others could write to.
func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("run directory %s is not a directory", dir)
	}
	if owner, ok := ownerOf(st); ok && owner != os.Geteuid() {
		return fmt.Errorf("run directory %s belongs to user %d and not to %d: name another, or remove it", dir, owner, os.Geteuid())
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
			return fmt.Errorf("run directory: %w", err)
		}
	}
	return nil
}

// errLocked is wrapped when somebody else holds a lock.
var errLocked = errors.New("locked")

// lockKey takes a mapping's lock.
func lockKey(dir, key string) (*os.File, error) {
	path := filepath.Join(dir, key+".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := tryLock(f, true); err != nil {
			_ = f.Close()
			return nil, err
		}
		here, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(here, there) {
			return f, nil
		}
		_ = f.Close() // its last holder removed it
	}
}

// held reports whether a daemon holds the lock of a key.
func held(dir, key string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, key+".lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = tryLock(f, false)
	if errors.Is(err, errLocked) {
		return true, nil
	}
	return false, err
}

// waitUnheld waits until the daemon of a key is gone.
func waitUnheld(dir, key string, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		on, err := held(dir, key)
		if err != nil || !on {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("its process did not end within %v: %w", wait, errLocked)
		}
	}
}

// maxRecord bounds what is read of a record.
const maxRecord = 64 << 10

func readRecord(dir, key string) (Record, error) {
	f, err := os.Open(filepath.Join(dir, key+".json"))
	if err != nil {
		return Record{}, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", f.Name(), err)
	}
	r.key = key
	return r, nil
}

// writeRecord replaces the record; only the lock's holder calls it.
func writeRecord(dir string, r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, r.key+".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, r.key+".json")); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// unlock removes a lock's file and gives the lock back.
func unlock(dir, key string, lock *os.File) error {
	err := os.Remove(filepath.Join(dir, key+".lock"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, lock.Close())
}

// removeFiles removes all of a mapping's files but its lock, which the caller
// holds.
func removeFiles(dir string, r Record) error {
	names := []string{r.key + ".tmp", r.key + ".json"}
	if r.ID != "" {
		names = append(names, r.ID+".ctl")
	}
	if r.Mode == File && r.MadePath {
		names = append(names, r.Path)
	}
	if r.Mode == Socket {
		names = append(names, r.Socket)
	}
	var errs []error
	for _, n := range names {
		if n == "" {
			continue
		}
		if !filepath.IsAbs(n) {
			n = filepath.Join(dir, n)
		}
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// keys returns the keys of everything in a run directory.
func keys(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	var all []string
	for _, e := range entries {
		if key, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			all = append(all, key)
		} else if key, ok := strings.CutSuffix(e.Name(), ".lock"); ok {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// records reads every record that there is.
func records(dir string) ([]Record, error) {
	ks, err := keys(dir)
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, k := range ks {
		r, err := readRecord(dir, k)
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile, or did not get so far
		}
		if err != nil {
			r = Record{Name: k + " (unreadable record)", key: k}
		}
		all = append(all, r)
	}
	return all, nil
}
