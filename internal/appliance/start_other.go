//go:build !linux

package appliance

import (
	"context"
	"errors"
)

// Start says that the appliance needs Linux to run on.
func Start(context.Context, Config) (*VM, error) {
	return nil, errors.New("the appliance runs on Linux hosts only")
}
