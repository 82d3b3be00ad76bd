package mapping

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/kernel/nbdattach"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// connected is mode nbd.
type connected struct {
	srv    *nbdserver.Server
	dev    *nbdattach.Device
	wdev   image.Device // nil: read-only
	cancel context.CancelFunc
	ended  chan struct{}
	reason error // of the server's end; read after ended
}

// identifier marks a device as a mapping's, for who cleans up.
func identifier(id string) string { return "holdfast:" + id }

func (m *Mapping) attachNBD(ctx context.Context) (_ backend, err error) {
	index := nbdattach.AnyIndex
	if m.spec.Device != "" {
		if index, err = nbdattach.ParseIndex(m.spec.Device); err != nil {
			return nil, err
		}
	}
	// The node gets this low number, and so goes after the socket when the
	// process is killed; see package fusefile.
	low, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	kernel, conn, err := socketPair(low)
	if err != nil {
		_ = unix.Close(low)
		return nil, err
	}
	export := &nbdserver.Export{Image: m.spec.Image, ReadOnly: m.rec.ReadOnly, Align: 512}
	size, flags, err := export.Info(nbd.Simple)
	if err != nil {
		_, _, _ = conn.Close(), unix.Close(kernel), unix.Close(low)
		return nil, err
	}
	b := &connected{srv: nbdserver.New(nbdserver.Options{Log: m.spec.Log}), ended: make(chan struct{})}
	if !m.rec.ReadOnly {
		b.wdev, _ = m.spec.Image.(image.Device)
	}
	var life context.Context
	life, b.cancel = context.WithCancel(context.Background()) // the mapping's life, which end ends
	go func() {                                               // end waits for it
		defer close(b.ended)
		b.reason = b.srv.ServeTransmission(life, conn, export)
	}()
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			defer cancel()
			err = errors.Join(err, b.end(clean, true))
		}
	}()
	m.spec.stage("serving")
	b.dev, err = nbdattach.Attach(ctx, nbdattach.Options{
		Index: index, Size: size, BlockSize: 512, Flags: uint64(flags), Timeout: m.spec.Timeout, DeadTimeout: m.spec.DeadTimeout,
		Identifier: identifier(m.rec.ID), Sockets: []int{kernel},
	})
	_ = unix.Close(kernel) // the device holds it now
	if err != nil {
		_ = unix.Close(low)
		return nil, err
	}
	if err := b.dev.MoveTo(low); err != nil {
		return nil, err
	}
	m.spec.stage("attached")
	m.rec.Device = b.dev.Path()
	return b, m.note("nbd")
}

// socketPair makes a socket for the kernel and one for the server, which has a
// higher descriptor number than above.
func socketPair(above int) (kernel int, server net.Conn, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("socket pair: %w", err)
	}
	f := os.NewFile(uintptr(p[1]), "kernel's NBD client")
	defer func() { _ = f.Close() }()
	for {
		c, err := net.FileConn(f) // takes the lowest free number
		if err != nil {
			_ = unix.Close(p[0])
			return -1, nil, fmt.Errorf("socket pair: %w", err)
		}
		if fdOf(c) > above {
			return p[0], c, nil
		}
		defer func() { _ = c.Close() }() // keeps the number until a higher one is found
	}
}

func fdOf(c net.Conn) (n int) {
	n = -1
	if u, ok := c.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { n = int(fd) })
		}
	}
	return n
}

func (b *connected) holders() ([]holders.Holder, error) { return deviceUsers(b.dev.Path()) }

func (b *connected) counters() Counters { return serverCounters(b.srv) }

func (b *connected) done() <-chan struct{} { return b.ended }

func (b *connected) err() error {
	if b.reason == nil {
		return nil // disconnected by hand
	}
	return fmt.Errorf("the connection to the kernel died: %w", b.reason)
}

func (b *connected) end(ctx context.Context, force bool) error {
	if b.dev != nil {
		if b.wdev != nil && b.dev.FD() >= 0 {
			if err := unix.Fsync(b.dev.FD()); err != nil && !force {
				return fmt.Errorf("write back %s: %w", b.dev.Path(), err)
			}
		}
		wait := ctx
		if force { // a user elsewhere may keep it for ever
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeout(ctx, 2*probeTime)
			defer cancel()
		}
		if err := b.dev.Detach(wait); err != nil && !force {
			return err
		}
	}
	if b.wdev != nil {
		if err := b.wdev.Flush(); err != nil && !force {
			return fmt.Errorf("make what was written durable: %w", err)
		}
	}
	b.cancel()
	select {
	case <-b.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the NBD server does not end: %w", context.Cause(ctx))
	}
}
