package overlay

import (
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

// dataSync makes content and length durable, without times.
func dataSync(f *os.File) error {
	return fileops.Control(f, func(fd int) error {
		for {
			if err := unix.Fdatasync(fd); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
}
