//go:build !linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/image/target"
)

// locked is a device whose lock this process has; here there is none.
type locked struct {
	place
	node string
}

func lock(context.Context, string, Options) (*locked, error) { return look("") }

func look(string) (*locked, error) {
	return nil, fmt.Errorf("volumes need Linux: %w", errors.ErrUnsupported)
}

func (l *locked) close() {}

func (l *locked) sector() ([]byte, error) { return nil, errors.ErrUnsupported }

func (l *locked) claim() (*target.File, error) { return nil, errors.ErrUnsupported }

func (l *locked) exclusive(int) (*os.File, error) { return nil, errors.ErrUnsupported }
