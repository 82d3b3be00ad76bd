package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

// maxBackground is how many asynchronous requests the kernel has under way.
const maxBackground = 32

// Mount is an archive that is mounted.
type Mount struct {
	dir  string
	dev  uint64 // st_dev of the file system
	done chan struct{}
}

// New mounts an archive on a directory; it must stay open until Done.
func New(dir string, a *pxar.Archive, o Options) (*Mount, error) {
	m, err := mount(dir, a, o)
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, explain(err))
	}
	return m, nil
}

func mount(dir string, a *pxar.Archive, o Options) (*Mount, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Source == "" {
		o.Source = "holdfast"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := check(dir); err != nil {
		return nil, err
	}
	srv, err := fuse.NewServer(newServer(a, o), dir, options(o))
	if err != nil {
		return nil, err
	}
	m := &Mount{dir: dir, done: make(chan struct{})}
	go func() { // ends with the file system
		defer close(m.done)
		srv.Serve()
	}()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, errors.Join(err, m.Close(context.Background()))
	}
	m.dev = st.Dev
	return m, nil
}

// check looks at a directory before something is mounted on it.
func check(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	if fusemount.Dead(dir) {
		return unix.ENOTCONN
	}
	at, ok, err := fusemount.At(dir)
	if err == nil && ok && at.Type == Type {
		return &MountedError{at}
	}
	return err
}

func options(o Options) *fuse.MountOptions {
	m := &fuse.MountOptions{
		FsName:                   o.Source,
		Name:                     "holdfast",
		AllowOther:               o.AllowOther,
		MaxWrite:                 MaxRequest, // also of reads
		MaxReadAhead:             MaxRequest,
		MaxBackground:            maxBackground,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
		DisableSplice:            true, // the data is in memory, and a pipe of 1 MiB is too short for header and data
		Logger:                   slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	root := os.Geteuid() == 0
	if root || o.AllowOther {
		m.Options = []string{"default_permissions"}
		m.EnableAcl = o.Links.hasACLs() // or the group would get what an ACL's mask allows
	}
	if root {
		m.DirectMountStrict = true
		m.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY
	} else {
		m.Options = append(m.Options, "ro")
	}
	return m
}

func explain(err error) error {
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: is there a /dev/fuse? (try modprobe fuse): %w", err, errors.ErrUnsupported)
	}
	return err
}

// Dir is where the archive is mounted, as an absolute path.
func (m *Mount) Dir() string { return m.dir }

// Done is closed when the file system has ended: unmounted and without users.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount takes the file system away, if nobody uses it. An error that wraps
// [fusemount.ErrBusy] leaves it as it was.
func (m *Mount) Unmount(ctx context.Context) error {
	if err := fusemount.Unmount(ctx, m.dir, false); err != nil {
		return err
	}
	return m.wait(ctx)
}

// Detach takes the file system out of sight. It is served until its last user
// is gone; Done says when.
func (m *Mount) Detach(ctx context.Context) error { return fusemount.Unmount(ctx, m.dir, true) }

// Close takes the file system away whoever uses it: they get errors from then
// on.
func (m *Mount) Close(ctx context.Context) error {
	select {
	case <-m.done:
		return nil
	default:
	}
	if err := m.Detach(ctx); err != nil {
		return err
	}
	select { // without users it ends by itself
	case <-m.done:
		return nil
	case <-time.After(50 * time.Millisecond):
	}
	if err := fusemount.Abort(m.dev); err != nil {
		return err
	}
	return m.wait(ctx)
}

func (m *Mount) wait(ctx context.Context) error {
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the file system on %s does not end: %w", m.dir, context.Cause(ctx))
	}
}
