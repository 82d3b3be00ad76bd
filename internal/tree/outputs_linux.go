package tree

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

// noteOutputs finds out which files the archive is written to.
func (s *scan) noteOutputs() error {
	for _, f := range s.o.Outputs {
		var st unix.Stat_t
		if err := fileops.Control(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
			return fmt.Errorf("look at the output %s: %w", f.Name(), err)
		}
		s.outputs = append(s.outputs, idOf(&st))
	}
	return nil
}
