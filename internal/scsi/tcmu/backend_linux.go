package tcmu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// backend is one unit in the kernel, and who answers for it here.
type backend struct {
	dir  string // in configfs
	uio  *os.File
	mem  []byte // shared with the kernel
	done chan struct{}
	err  error // why nobody answers any more; set before done is closed
}

// makeBackend makes the backend of unit i and opens its ring.
func makeBackend(core, name string, i int) (b *backend, err error) {
	unit := name + "." + strconv.Itoa(i)
	b = &backend{dir: filepath.Join(core, unit)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := configure(b.dir, unit); err != nil {
		return nil, err
	}
	device, err := findUIO(b.dir)
	if err != nil {
		return nil, err
	}
	size, err := mapSize(device)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a read could not be ended.
	fd, err := unix.Open("/dev/"+device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/%s: %w", device, err)
	}
	b.uio = os.NewFile(uintptr(fd), "/dev/"+device)
	b.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of /dev/%s: %w", size, device, err)
	}
	return b, nil
}

const uioClass = "/sys/class/uio"

// findUIO looks for the UIO device that the kernel made of a backend.
func findUIO(dir string) (string, error) {
	core, unit := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
	want := fmt.Sprintf("tcm-user/%s/%s/holdfast/%s", strings.TrimPrefix(core, "user_"), unit, unit)
	all, err := os.ReadDir(uioClass)
	if err != nil {
		return "", err
	}
	for _, e := range all {
		name, err := os.ReadFile(filepath.Join(uioClass, e.Name(), "name"))
		if err == nil && strings.TrimSpace(string(name)) == want {
			return e.Name(), nil
		}
	}
	return "", fmt.Errorf("the kernel made no UIO device %q", want)
}

// served reports whether a process answers for a backend: only one can have its
// UIO device open.
func served(dir string) bool {
	device, err := findUIO(dir)
	if err != nil {
		return false
	}
	fd, err := unix.Open("/dev/"+device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}

// mapSize is the length of a UIO device's memory.
func mapSize(device string) (int, error) {
	text, err := os.ReadFile(filepath.Join(uioClass, device, "maps", "map0", "size"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 40)
	if err != nil {
		return 0, fmt.Errorf("size of the memory of %s: %w", device, err)
	}
	return int(n), nil
}

// serve begins to answer with u. over is called when that ends.
func (b *backend) serve(u target.Unit, over func()) error {
	r, err := newRing(b.mem)
	if err != nil {
		return err
	}
	b.done = make(chan struct{})
	go func() {
		defer over()
		defer close(b.done)
		b.err = b.run(&server{ring: r, unit: u})
	}()
	return nil
}

// run answers until the device is closed.
func (b *backend) run(s *server) error {
	var count [4]byte // of interrupts, which says nothing
	kick := func() error {
		_, err := b.uio.Write([]byte{0, 0, 0, 0})
		return err
	}
	for {
		if err := s.drain(kick); err != nil {
			return err
		}
		if _, err := b.uio.Read(count[:]); err != nil {
			return err
		}
	}
}

// close ends serving and takes the backend away. Its fabric is gone.
func (b *backend) close() error {
	var errs []error
	if b.uio != nil {
		errs = append(errs, b.uio.Close())
	}
	if b.done != nil {
		<-b.done
		if b.err != nil && !errors.Is(b.err, os.ErrClosed) {
			errs = append(errs, b.err)
		}
	}
	if b.mem != nil {
		errs = append(errs, unix.Munmap(b.mem))
	}
	return errors.Join(append(errs, removeDir(b.dir))...)
}
