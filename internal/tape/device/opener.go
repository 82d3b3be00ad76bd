package device

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/scsi/socket"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Opener opens devices. It is safe for concurrent use.
type Opener struct {
	Config    config.Config
	Locks     string         // directory of the locks of drives; "": they are not locked
	Encrypter tape.Encrypter // nil: no keys
	Version   string         // of this program

	mu        sync.Mutex
	libraries map[string]*vtl.Library // by directory
}

// Close closes the virtual libraries. Nobody may use their units any more.
func (o *Opener) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, l := range o.libraries {
		errs = append(errs, l.Close())
	}
	o.libraries = nil
	return errors.Join(errs...)
}

// isDevice reports whether a path is the node of a device, as far as it is there.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeDevice != 0
}

// resolve returns the node that a path means, or the path of a unit that is no
// device.
func resolve(path string, kind scsi.DeviceType) (string, error) {
	return scsi.Resolve(os.DirFS("/sys"), os.DirFS("/dev"), path, kind)
}

// transport opens the way to a unit.
func (o *Opener) transport(ctx context.Context, path string, kind scsi.DeviceType) (scsi.Transport, error) {
	node, err := resolve(path, kind)
	if err != nil {
		return nil, err
	}
	if !isDevice(node) {
		return o.emulated(ctx, node)
	}
	d, err := sg.Open(node)
	if err != nil {
		return nil, err // and no interface with nothing in it
	}
	return d, nil
}

// emulated opens the way to a unit that is no device: one behind a socket, or one of
// a virtual library.
func (o *Opener) emulated(ctx context.Context, path string) (scsi.Transport, error) {
	info, err := os.Stat(path)
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	_, lerr := os.Stat(filepath.Join(dir, "library.json"))
	if err == nil && info.Mode()&fs.ModeSocket != 0 {
		t, err := socket.Dial(ctx, path)
		if err == nil || lerr != nil {
			return t, err
		} // the socket is left over from a server that was killed
	}
	if lerr != nil {
		if err == nil {
			err = fmt.Errorf("%s is no device, no socket and no unit of a virtual library", path)
		}
		return nil, err
	}
	l, err := o.library(dir)
	if err != nil {
		return nil, err
	}
	for _, u := range l.Units() {
		if u.Name == name {
			return target.Connect(u.Unit), nil
		}
	}
	return nil, fmt.Errorf("the virtual library in %s has no unit %q", dir, name)
}

// library opens a virtual library once.
func (o *Opener) library(dir string) (*vtl.Library, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.libraries[dir]; l != nil {
		return l, nil
	}
	l, err := vtl.Open(dir, vtl.Options{})
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("the virtual library in %s: %w", dir, tape.ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	if o.libraries == nil {
		o.libraries = map[string]*vtl.Library{}
	}
	o.libraries[dir] = l
	return l, nil
}
