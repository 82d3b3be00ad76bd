package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// space holds a directory to its size.
type space struct {
	limit int64

	mu      sync.Mutex
	known   bool
	total   int64 // bytes of all files, as far as is known
	unasked int64 // bytes that were added since the directory was looked at
}

const (
	diskBlock = 4 << 10       // what a file takes is a multiple of this
	abandoned = 6 * time.Hour // a file under tmp that nobody wrote to for so long is nobody's
)

// added counts a new file and makes room.
func (s *space) added(dir string, n int64) error {
	n = onDisk(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += n
	s.unasked += n
	if s.known && s.total <= s.limit && s.unasked <= s.limit/8 {
		return nil
	}
	return s.make(dir)
}

func onDisk(n int64) int64 { return (n + diskBlock - 1) / diskBlock * diskBlock }

// used is a file of the cache.
type used struct {
	path string
	size int64
	at   time.Time
}

// make looks at the directory and removes what was used longest ago if there is too
// much.
func (s *space) make(dir string) error {
	files, total, err := look(dir)
	if err != nil {
		return err
	}
	if total > s.limit {
		slices.SortFunc(files, func(a, b used) int { return a.at.Compare(b.at) })
		for _, f := range files {
			if total <= s.limit-s.limit/10 {
				break
			}
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) { // else another process was faster
				return err
			}
			_ = os.Remove(filepath.Dir(f.path)) // if it was the last one there
			total -= f.size
		}
	}
	s.known, s.total, s.unasked = true, total, 0
	return nil
}

// look lists the files. Those that go meanwhile are not there.
func look(dir string) (files []used, total int64, err error) {
	tmp := filepath.Join(dir, "tmp")
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case filepath.Dir(path) != tmp:
			files = append(files, used{path, onDisk(info.Size()), info.ModTime()})
			total += onDisk(info.Size())
		case time.Since(info.ModTime()) > abandoned:
			_ = os.Remove(path) // its process was killed
		}
		return nil
	})
	return files, total, err
}
