//go:build !linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// locked is a device whose lock this process has; here there is none.
type locked struct {
	place
	node string
	rdev uint64
}

func lock(context.Context, string, Options) (*locked, error) { return look("") }

func look(string) (*locked, error) {
	return nil, fmt.Errorf("volumes need Linux: %w", errors.ErrUnsupported)
}

func (l *locked) close() {}

func (l *locked) sector() ([]byte, error) { return nil, errors.ErrUnsupported }

func (l *locked) claim() (*target.File, error) { return nil, errors.ErrUnsupported }

func (l *locked) exclusive(int) (*os.File, error) { return nil, errors.ErrUnsupported }

func (l *locked) mapThrowAway(context.Context, mapper, Mapping, MapOptions) error {
	return errors.ErrUnsupported
}

func openMapper() (*dm.Control, error) { return dm.Open() }

func devText(dev uint64) string { return fmt.Sprint(dev) }

func parseDev(string) (uint64, bool) { return 0, false }

func nodeOf(string, uint64) (string, error) { return "", errors.ErrUnsupported }

func readAt(string, uint64) (Info, error) { return Info{}, errors.ErrUnsupported }

func kernelName(uint64) string { return "" }

func (l *locked) busy() error { return errors.ErrUnsupported }
