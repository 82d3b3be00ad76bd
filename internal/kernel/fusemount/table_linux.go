package fusemount

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// List returns the FUSE file systems that are mounted, in the order of the
// mount table: of several on one path the last one is what is seen.
func List() (all []Mount, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20) // options of overlays are long
	for s.Scan() {
		if m, ok := parse(s.Text()); ok {
			all = append(all, m)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return all, nil
}

// parse reads a line of mountinfo:
//
//	36 35 0:52 / /mnt ro,nosuid - fuse.holdfast source ro,user_id=0
func parse(line string) (m Mount, ok bool) {
	left, right, _ := strings.Cut(line, " - ")
	place, what := strings.Fields(left), strings.Fields(right)
	if len(place) < 5 || len(what) < 2 || what[0] != "fuse" && !strings.HasPrefix(what[0], "fuse.") {
		return Mount{}, false
	}
	return Mount{Path: unescape.Replace(place[4]), Type: what[0], Source: unescape.Replace(what[1])}, true
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, "\\", `\043`, "#")

// At returns what is mounted on path, seen from there; ok is false if that is
// no FUSE file system.
func At(path string) (m Mount, ok bool, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Mount{}, false, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil { // it may be dead
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	all, err := List()
	for _, x := range all {
		if x.Path == abs {
			m, ok = x, true
		}
	}
	return m, ok, err
}

// Mounted reports whether a FUSE file system is mounted on path.
func Mounted(path string) (bool, error) {
	_, ok, err := At(path)
	return ok, err
}

// Dead reports whether a file system is mounted on path whose server is gone,
// as far as this user may know. A stat would not tell: the kernel may answer it
// by itself.
func Dead(path string) bool {
	var st unix.Statfs_t
	return errors.Is(unix.Statfs(path, &st), unix.ENOTCONN)
}
