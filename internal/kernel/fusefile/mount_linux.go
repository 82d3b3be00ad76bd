package fusefile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

// highFD is where /dev/fuse is moved to; see the package comment.
const highFD = 512

// File is an image that is shown as a file.
type File struct {
	srv  *server
	path string // mounted here, or ""
	root int    // O_PATH descriptor of the file, or -1
	dev  uint64 // st_dev of the file system
	done chan struct{}
}

func mountOptions(o Options, dev image.Device) *fuse.MountOptions {
	m := &fuse.MountOptions{
		FsName:            o.Name,
		Name:              "holdfast",
		MaxWrite:          MaxRequest,
		MaxBackground:     MaxBackground,
		MaxReadAhead:      MaxRequest,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO, // or the loop driver waits for each direct read before the next
		DisableXAttrs:     true,
		DisableSplice:     true, // the data is in memory, and a pipe of 1 MiB is too short for header and data
		Logger:            slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		Options:           []string{"default_permissions"},
	}
	if dev == nil {
		m.Options = append(m.Options, "ro")
	}
	return m
}

func defaults(o Options) Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		o.Name = "holdfast"
	}
	return o
}

// Mount shows the image in place of the regular file at path.
func Mount(path string, img image.Image, o Options) (*File, error) {
	o = defaults(o)
	s := newServer(img, o)
	m := mountOptions(o, s.dev)
	if os.Geteuid() == 0 {
		m.DirectMountStrict = true
		m.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV
		m.Options = m.Options[:1]
		if s.dev == nil {
			m.DirectMountFlags |= unix.MS_RDONLY
		}
	}
	srv, err := fuse.NewServer(s, path, m)
	if err != nil {
		return nil, fmt.Errorf("mount an image on %s: %w", path, explain(err))
	}
	f := &File{srv: s, path: path, root: -1, done: make(chan struct{})}
	f.serve(srv)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		_ = f.Close(context.Background())
		return nil, fmt.Errorf("mount an image on %s: %w", path, err)
	}
	f.dev = uint64(st.Dev)
	return f, nil
}

func explain(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: is there a /dev/fuse? (try modprobe fuse): %w", err, errors.ErrUnsupported)
	}
	return err
}

// Anonymous shows the image as a file without a name, which Open opens. It
// needs root.
func Anonymous(img image.Image, o Options) (*File, error) {
	o = defaults(o)
	f, err := anonymous(img, o)
	if err != nil {
		return nil, fmt.Errorf("make a FUSE file: %w", explain(err))
	}
	return f, nil
}

func anonymous(img image.Image, o Options) (*File, error) {
	if o.oldMount {
		return detached(img, o)
	}
	f, err := unmounted(img, o)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.2
		return detached(img, o)
	}
	return f, err
}

// openFuse opens /dev/fuse at a high number.
func openFuse() (int, error) {
	low, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	high, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, highFD)
	if err != nil { // a small limit of open files
		return low, nil
	}
	_ = unix.Close(low)
	return high, nil
}

// unmounted uses the mount interface of Linux 5.2, which makes a mount before
// it has a place.
func unmounted(img image.Image, o Options) (*File, error) {
	s := newServer(img, o)
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	dev, err := openFuse()
	if err != nil {
		return nil, err
	}
	root, err := configure(fs, dev, o, s.dev == nil)
	if err != nil {
		_ = unix.Close(dev)
		return nil, err
	}
	return start(s, dev, root, o)
}

func configure(fs, dev int, o Options, readOnly bool) (root int, err error) {
	for _, p := range [][2]string{
		{"source", o.Name},
		{"subtype", "holdfast"},
		{"fd", strconv.Itoa(dev)},
		{"rootmode", strconv.FormatUint(unix.S_IFREG, 8)},
		{"user_id", strconv.Itoa(os.Geteuid())},
		{"group_id", strconv.Itoa(os.Getegid())},
		{"max_read", strconv.Itoa(MaxRequest)},
	} {
		if err := unix.FsconfigSetString(fs, p[0], p[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", p[0], p[1], err)
		}
	}
	flags := []string{"default_permissions"}
	if readOnly {
		flags = append(flags, "ro")
	}
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return -1, fmt.Errorf("fsconfig %s: %w", flag, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig create: %w", err)
	}
	root, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return root, nil
}

// detached mounts on a file and takes the mount out of the tree at once.
func detached(img image.Image, o Options) (_ *File, err error) {
	s := newServer(img, o)
	t, err := os.CreateTemp(o.Dir, "mount-*.tmp")
	if err != nil {
		return nil, err
	}
	_ = t.Close()
	defer func() { _ = os.Remove(t.Name()) }()
	dev, err := openFuse()
	if err != nil {
		return nil, err
	}
	var flags uintptr = unix.MS_NOSUID | unix.MS_NODEV
	if s.dev == nil {
		flags |= unix.MS_RDONLY
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,default_permissions",
		dev, unix.S_IFREG, os.Geteuid(), os.Getegid(), MaxRequest)
	if err := unix.Mount(o.Name, t.Name(), "fuse.holdfast", flags, options); err != nil {
		_ = unix.Close(dev)
		return nil, fmt.Errorf("mount: %w", err)
	}
	root, err := unix.Open(t.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if e := unix.Unmount(t.Name(), unix.MNT_DETACH); err == nil {
		err = e
	}
	if err != nil {
		_ = unix.Close(dev)
		return nil, fmt.Errorf("detach the mount: %w", err)
	}
	return start(s, dev, root, o)
}

// start serves /dev/fuse, opened as dev; both descriptors pass to the file.
func start(s *server, dev, root int, o Options) (*File, error) {
	srv, err := fuse.NewServer(s, fmt.Sprintf("/dev/fd/%d", dev), mountOptions(o, s.dev))
	if err != nil {
		_ = unix.Close(root) // the last use of the file system: the server's end closes dev
		return nil, err
	}
	f := &File{srv: s, root: root, done: make(chan struct{})}
	f.serve(srv)
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		_ = f.Close(context.Background())
		return nil, err
	}
	f.dev = uint64(st.Dev)
	return f, nil
}

func (f *File) serve(srv *fuse.Server) {
	go func() { // ends with the file system; Close waits for it
		defer close(f.done)
		srv.Serve()
	}()
}

// Open opens the file and returns a plain descriptor, which the caller closes.
func (f *File) Open() (int, error) {
	path, flags := f.path, unix.O_RDONLY|unix.O_CLOEXEC
	if path == "" {
		path = fmt.Sprintf("/proc/self/fd/%d", f.root)
	}
	if f.srv.dev != nil {
		flags = unix.O_RDWR | unix.O_CLOEXEC
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return -1, fmt.Errorf("open the FUSE file: %w", err)
	}
	return fd, nil
}

// Release lets go of an anonymous file: it lives on while something else, such
// as a loop device, holds it.
func (f *File) Release() {
	if f.root >= 0 {
		_ = unix.Close(f.root)
		f.root = -1
	}
}

// Device is the st_dev of the file, which names its FUSE connection too.
func (f *File) Device() uint64 { return f.dev }

// Counters returns what was served so far.
func (f *File) Counters() Counters { return f.srv.counters.read() }

// Done is closed when the file system has ended: unmounted and without users,
// or aborted.
func (f *File) Done() <-chan struct{} { return f.done }

// Unmount takes a mounted file away, if nobody has it open. An error that wraps
// [fusemount.ErrBusy] leaves it as it was.
func (f *File) Unmount(ctx context.Context) error {
	if f.path == "" {
		f.Release()
	} else if err := fusemount.Unmount(ctx, f.path, false); err != nil {
		return err
	}
	return f.wait(ctx)
}

// Close takes the file away whoever uses it: they get errors from then on.
func (f *File) Close(ctx context.Context) error {
	if f.path == "" {
		f.Release()
	} else if err := fusemount.Unmount(ctx, f.path, true); err != nil {
		return err
	}
	select { // without other users it ends by itself
	case <-f.done:
		return nil
	case <-time.After(50 * time.Millisecond):
	}
	if err := fusemount.Abort(f.dev); err != nil {
		return err
	}
	return f.wait(ctx)
}

func (f *File) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the FUSE file's server does not end: %w", context.Cause(ctx))
	}
}
