//go:build !linux

package vm

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/image"
)

var errSystem = errors.New("restore machines run on Linux hosts only")

// Possible says that there are no machines here.
func Possible() error { return errSystem }

// Disk is an image of the snapshot under the name of its archive.
type Disk struct {
	Archive string
	Image   image.Image
}

// Appliance says what a machine is made of.
type Appliance struct{ Kernel appliance.KernelSearch }

// Config is not to be had here.
func (Appliance) Config() (appliance.Config, error) { return appliance.Config{}, errSystem }

// For is not to be had here.
func For(string) (Appliance, error) { return Appliance{}, errSystem }

// Options say how a machine is made.
type Options struct {
	Appliance
	Dir   string
	Idle  time.Duration
	Ready func() error
	Log   *slog.Logger
}

// Status is what a supervisor says of its machine.
type Status struct {
	Name                  string
	PID                   int
	Uptime, Timeout, Boot float64
	Accel, Kernel         string
	Memory, Disks         int
	Starting              bool
	Error                 string
}

// Serve is not to be had here.
func Serve(context.Context, string, []Disk, Options) error { return errSystem }

// Client makes calls to a machine; there is none.
type Client struct{}

// Ensure is not to be had here.
func Ensure(context.Context, string, string, func(context.Context) error) (*Client, bool, error) {
	return nil, false, errSystem
}

// Status is not to be had here.
func (*Client) Status(context.Context, bool) (Status, error) { return Status{}, errSystem }

// Unlock is not to be had here.
func (*Client) Unlock(context.Context, filerestore.Path, []byte) error { return errSystem }

// Driver is not to be had here.
func (*Client) Driver() filerestore.Driver { return nil }

// List finds no machines.
func List(context.Context, string) ([]Status, error) { return []Status{}, nil }

// Names finds no machines.
func Names(context.Context, string) ([]string, error) { return nil, nil }

// Stop finds no machine.
func Stop(context.Context, string, string) (bool, error) { return false, nil }
