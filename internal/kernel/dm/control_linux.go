package dm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control is device-mapper. It is safe for concurrent use.
type Control struct{ fd int }

// Open opens device-mapper, which loads its module where the kernel can do that.
func Open() (*Control, error) {
	fd, err := openControl()
	if err != nil {
		return nil, err
	}
	c := &Control{fd}
	if _, err := c.call(unix.DM_VERSION, request{}, 0); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("device-mapper: %w", err)
	}
	return c, nil
}

// Close lets go of it. Devices stay.
func (c *Control) Close() error { return unix.Close(c.fd) }

// List returns all devices.
func (c *Control) List() ([]Named, error) {
	a, err := c.call(unix.DM_LIST_DEVICES, request{}, answerRoom)
	if err != nil {
		return nil, fmt.Errorf("list device-mapper devices: %w", err)
	}
	return a.names()
}

// Info describes a device.
func (c *Control) Info(name string) (Info, error) {
	a, err := c.call(unix.DM_DEV_STATUS, request{name: name}, 0)
	if err != nil {
		return Info{}, named(name, err)
	}
	return a.info(), nil
}

// Table returns the table of a device.
func (c *Control) Table(name string) ([]Target, error) {
	a, err := c.call(unix.DM_TABLE_STATUS, request{name: name, flags: flagStatusTable}, answerRoom)
	if err != nil {
		return nil, named(name, err)
	}
	return a.table()
}

// Status returns what the targets say of themselves, in their parameters.
func (c *Control) Status(name string) ([]Target, error) {
	a, err := c.call(unix.DM_TABLE_STATUS, request{name: name}, answerRoom)
	if err != nil {
		return nil, named(name, err)
	}
	return a.table()
}

// Create makes a device with a table, and its node. The error wraps ErrExists if the
// name is taken.
func (c *Control) Create(ctx context.Context, name, uuid string, table []Target, readOnly bool) (i Info, err error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if _, err := c.call(unix.DM_DEV_CREATE, request{name: name, uuid: uuid}, 0); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = ErrExists
		}
		return Info{}, fmt.Errorf("make %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = c.remove(context.WithoutCancel(ctx), name, 0)
			err = fmt.Errorf("make %s: %w", name, err)
		}
	}()
	var flags uint32
	if readOnly {
		flags = flagReadOnly
	}
	if _, err := c.call(unix.DM_TABLE_LOAD, request{name: name, flags: flags, targets: table}, 0); err != nil {
		return Info{}, c.refused(table, err)
	}
	// Suspend without the flag for it is resume.
	if _, err := c.call(unix.DM_DEV_SUSPEND, request{name: name, event: eventOfOurs}, 0); err != nil {
		return Info{}, err
	}
	i, err = c.Info(name)
	if err != nil {
		return Info{}, err
	}
	return i, makeNode(ctx, i)
}

// refused says more about a table that the kernel does not take.
func (c *Control) refused(table []Target, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("what it lies on is %w (%w)", ErrBusy, err)
	case errors.Is(err, unix.EINVAL):
		a, lerr := c.call(unix.DM_LIST_VERSIONS, request{}, answerRoom)
		if lerr != nil {
			break
		}
		types, lerr := a.targetTypes()
		var wanted []string // without their parameters, which may be keys
		for _, t := range table {
			if lerr == nil && !slices.Contains(types, t.Type) {
				return &NoTargetError{Type: t.Type}
			}
			wanted = append(wanted, t.Type)
		}
		return fmt.Errorf("the kernel refuses the table, of %s (its log says why): %w", strings.Join(wanted, ", "), err)
	}
	return fmt.Errorf("load the table: %w", err)
}

// Remove removes a device and its node. One that is open is tried again until wait
// is over, as udev opens what it hears of; then the error wraps ErrBusy.
func (c *Control) Remove(ctx context.Context, name string, wait time.Duration) error {
	return c.remove(ctx, name, wait)
}

func (c *Control) remove(ctx context.Context, name string, wait time.Duration) error {
	end := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		i, err := c.Info(name)
		if err == nil {
			_, err = c.call(unix.DM_DEV_REMOVE, request{name: name, event: eventOfOurs}, 0)
		}
		if err == nil {
			return removeNode(ctx, i)
		}
		if !errors.Is(err, unix.EBUSY) {
			return named(name, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("remove %s: it is %w (%w)", name, ErrBusy, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// named gives an error the device's name and its kind.
func named(name string, err error) error {
	if errors.Is(err, unix.ENXIO) {
		err = ErrNotFound
	}
	return fmt.Errorf("%s: %w", name, err)
}

// answerRoom is enough for most answers.
const answerRoom = 4 << 10

// call makes one call; an answer that does not fit gets more room.
func (c *Control) call(cmd uint, q request, room int) (answer, error) {
	for {
		b, err := q.append(nil, room)
		if err != nil {
			return nil, err
		}
		if err := ioctl(c.fd, cmd, b); err != nil {
			return nil, err
		}
		a := answer(b)
		if room == 0 || a.flags()&flagBufferFull == 0 {
			return a, nil
		}
		if room *= 4; room > MaxAnswer {
			return nil, fmt.Errorf("the answer has more than %d bytes", MaxAnswer)
		}
	}
}

func ioctl(fd int, cmd uint, b []byte) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(cmd), uintptr(unsafe.Pointer(&b[0])))
		runtime.KeepAlive(b)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.ENOTTY:
			return fmt.Errorf("%w: %w", ErrNoDriver, errno)
		}
		return errno
	}
}
