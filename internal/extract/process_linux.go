package extract

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"golang.org/x/sys/unix"
)

// process is what new files get from this process.
type process struct {
	owners filemeta.Owners
	umask  uint32
	sure   bool // of the umask
}

func thisProcess() process {
	p := process{owners: filemeta.Owners{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, umask: 0o077}
	// The call that tells the umask also changes it, for all threads.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			if v, err := strconv.ParseUint(strings.TrimSpace(text), 8, 16); err == nil {
				p.umask, p.sure = uint32(v), true
			}
		}
	}
	return p
}

// defaultMode is the permissions that a new file gets when nobody says others.
func (p process) defaultMode(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return 0o777 &^ p.umask
	}
	return 0o666 &^ p.umask
}

// retry calls f until no signal interrupts it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
