//go:build !linux

package appliance

import (
	"context"
	"errors"
	"io"
)

// WriteInitrd says that the appliance needs Linux to run on.
func (c Config) WriteInitrd(io.Writer) (int64, error) {
	_, err := Start(context.Background(), c)
	return 0, err
}

// Start says that the appliance needs Linux to run on.
func Start(context.Context, Config) (*VM, error) {
	return nil, errors.New("the appliance runs on Linux hosts only")
}
