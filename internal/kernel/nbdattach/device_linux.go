package nbdattach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a connected device whose node this process holds open.
type Device struct {
	index int
	fd    int
	end   <-chan error // of DO_IT; nil with netlink
}

// Attach connects a device and waits until it can be read. Whoever is on the
// other end of the sockets must answer meanwhile: the kernel looks for
// partitions.
func Attach(ctx context.Context, o Options) (*Device, error) {
	d, err := attach(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("attach an nbd device: %w", err)
	}
	return d, nil
}

func attach(ctx context.Context, o Options) (_ *Device, err error) {
	d := &Device{fd: -1}
	d.index, err = 0, errNoFamily
	if !o.ioctl {
		d.index, err = connect(ctx, o)
	}
	if errors.Is(err, errNoFamily) {
		if exists, e := known(max(o.Index, 0)); e == nil && !exists {
			return nil, fmt.Errorf("no nbd driver here (try modprobe nbd): %w: %w", err, errors.ErrUnsupported)
		}
		d.index, d.end, err = claim(o)
	}
	if err != nil {
		return nil, err
	}
	if err := d.ready(ctx, o); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(err, d.Detach(clean))
	}
	return d, nil
}

func (d *Device) ready(ctx context.Context, o Options) (err error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := Read(d.index); err == nil && s.Size > 0 {
			break
		}
		select {
		case <-tick.C:
		case e := <-d.end:
			d.end = nil
			return fmt.Errorf("%s ended at once: %w", d.Path(), errors.Join(ErrFree, e))
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %w", d.Path(), context.Cause(ctx))
		}
	}
	if d.fd, err = openNode(d.index, o.Flags&ReadOnly == 0); err != nil {
		return err
	}
	if d.end == nil {
		// The kernel refuses a change that does not repeat the identifier.
		return Reconfigure(ctx, Options{
			Index: d.index, ClientFlags: DisconnectOnClose | o.ClientFlags, Identifier: o.Identifier,
		})
	}
	return nil
}

// Index is N of /dev/nbdN.
func (d *Device) Index() int { return d.index }

// Path is the device's node.
func (d *Device) Path() string { return Path(d.index) }

// FD is the descriptor of the node; the device keeps owning it.
func (d *Device) FD() int { return d.fd }

// MoveTo makes fd the descriptor of the node, in place of what it was.
func (d *Device) MoveTo(fd int) error {
	if err := unix.Dup3(d.fd, fd, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("move the descriptor of %s: %w", d.Path(), err)
	}
	_ = unix.Close(d.fd) // not the last one: nothing happens to the device
	d.fd = fd
	return nil
}

// Close gives the node back, which disconnects the device if nobody else has
// it open (netlink only).
func (d *Device) Close() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// Detach disconnects the device, also if it is in use, and waits until it is
// free.
func (d *Device) Detach(ctx context.Context) error {
	err := tell(ctx, d.index)
	if e := d.Close(); err == nil { // before waiting: an open node keeps it
		err = e
	}
	if d.end != nil {
		select {
		case <-d.end:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", d.Path(), ErrBusy, context.Cause(ctx))
		}
		d.end = nil
	}
	if err != nil {
		return err
	}
	return waitFree(ctx, d.index)
}

// Disconnect disconnects a device, which any process may do, and waits until it
// is free. Requests that are under way get errors. As long as somebody has the
// node open, it is not free: an error that wraps ErrBusy.
func Disconnect(ctx context.Context, index int) error {
	if err := tell(ctx, index); err != nil {
		return err
	}
	return waitFree(ctx, index)
}

func tell(ctx context.Context, index int) error {
	err := disconnect(ctx, index)
	if errors.Is(err, errNoFamily) {
		err = disconnectByIoctl(ctx, index)
	}
	if err != nil {
		return fmt.Errorf("disconnect %s: %w", Path(index), err)
	}
	return nil
}

func waitFree(ctx context.Context, index int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := Read(index); errors.Is(err, ErrFree) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("disconnect %s: %w: %w", Path(index), ErrBusy, context.Cause(ctx))
		}
	}
}

// Read returns the state of a device by sysfs. One that is not connected is an
// error wrapping ErrFree.
func Read(index int) (Status, error) {
	s := Status{Index: index}
	dir := fmt.Sprintf("/sys/block/nbd%d/", index)
	pid, err := attribute(dir + "pid")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return Status{}, fmt.Errorf("%s: %w", Path(index), ErrFree)
	}
	if err != nil {
		return Status{}, fmt.Errorf("state of %s: %w", Path(index), err)
	}
	s.PID, _ = strconv.Atoi(pid)
	sectors, err := attribute(dir + "size")
	if err != nil {
		return Status{}, fmt.Errorf("state of %s: %w", Path(index), err)
	}
	n, err := strconv.ParseInt(sectors, 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("size of %s: %w", Path(index), err)
	}
	s.Size = n * 512
	ro, _ := attribute(dir + "ro")
	s.ReadOnly = ro == "1"
	s.Identifier, _ = attribute(dir + "backend") // since Linux 5.14
	return s, nil
}

func attribute(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// All returns the state of every connected device.
func All() ([]Status, error) {
	dirs, err := filepath.Glob("/sys/block/nbd*")
	if err != nil {
		return nil, err
	}
	var all []Status
	for _, dir := range dirs {
		index, err := ParseIndex(dir)
		if err != nil {
			continue
		}
		if s, err := Read(index); err == nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return a.Index - b.Index })
	return all, nil
}

// Partitions returns the nodes of the partitions that the kernel found.
func Partitions(index int) []string {
	name := "nbd" + strconv.Itoa(index)
	found, _ := filepath.Glob("/sys/block/" + name + "/" + name + "p*")
	for i, f := range found {
		found[i] = "/dev/" + filepath.Base(f)
	}
	return found
}

func known(index int) (bool, error) {
	_, err := os.Stat(fmt.Sprintf("/sys/block/nbd%d", index))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// openNode opens a device's node; in a container it may be missing, then it is
// made.
func openNode(index int, write bool) (int, error) {
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	path := Path(index)
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		var major, minor uint32
		number, e := attribute(fmt.Sprintf("/sys/block/nbd%d/dev", index))
		if e == nil {
			_, e = fmt.Sscanf(number, "%d:%d", &major, &minor)
		}
		if e != nil {
			return -1, fmt.Errorf("open %s: %w", path, errors.Join(err, e))
		}
		if e := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); e != nil && !errors.Is(e, unix.EEXIST) {
			return -1, fmt.Errorf("make the missing node %s: %w", path, e)
		}
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}
