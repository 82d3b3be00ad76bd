package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type nbdServeOptions struct {
	socket        string
	listen        string
	certificates  string
	verifyClients bool
	idle          time.Duration
	connections   int
	disk          diskOptions
}

func newNBDServeCommand(a *app) *cobra.Command {
	var o nbdServeOptions
	cmd := &cobra.Command{
		Use:   "serve SNAPSHOT [ARCHIVE...]",
		Short: "Serve disk images of a snapshot as NBD exports",
		Long: `Serves disk images of a snapshot over NBD until it is interrupted, each under
its archive's name; all disk images of the snapshot where none is named. No
privilege is needed: QEMU, qemu-img, nbdcopy, nbdfuse and guestfish open the
addresses that it prints.

--socket makes a unix socket that only its owner can use. --listen takes TCP
connections, on port 10809 unless another is given; without TLS everyone who
reaches the port can read the backup. --tls-certificates names a directory with
server-cert.pem and server-key.pem, and TLS is then required; with
--tls-verify-clients, clients need a certificate of ca-cert.pem in there.

With --writable guests can write: what they change goes to an overlay file,
which stays when the server ends and is taken up again the next time. The backup
never changes. 'holdfast overlay' shows, commits and discards overlays.

--trace FILE makes the second start of the same guest faster: the file lists in
which order the chunks were read, and the next run fetches them in that order,
ahead of the reads and as far as the cache has room.`,
		Example: `  holdfast nbd serve vm/100 --socket /run/user/1000/vm-100.sock
  qemu-img convert -O qcow2 'nbd+unix:///drive-scsi0.img?socket=/run/user/1000/vm-100.sock' disk.qcow2
  holdfast nbd serve vm/100/2026-11-22T10:00:00Z drive-scsi0.img --socket vm.sock --writable --trace vm-100.trace
  qemu-system-x86_64 -m 2G -drive file='nbd+unix:///drive-scsi0.img?socket=vm.sock',format=raw,if=virtio
  holdfast nbd serve vm/100 --listen 10.0.0.1 --tls-certificates /etc/holdfast/tls --idle-timeout 1h`,
		Args:              between(1, -1),
		ValidArgsFunction: a.completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNBDServe(cmd.Context(), a, args[0], args[1:], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "listen on this unix socket")
	f.StringVar(&o.listen, "listen", "", "listen on this TCP address, as 127.0.0.1 or [::]:10809")
	f.StringVar(&o.certificates, "tls-certificates", "", "require TLS, with the certificates in this directory")
	f.BoolVar(&o.verifyClients, "tls-verify-clients", false, "accept only clients with a certificate of ca-cert.pem")
	f.DurationVar(&o.idle, "idle-timeout", 0, "end when no client was connected for so long, as 30m (0: never)")
	f.IntVar(&o.connections, "max-connections", 64, "connections at a time")
	o.disk.flags(cmd)
	return cmd
}

func (o nbdServeOptions) check() error {
	switch {
	case o.socket == "" && o.listen == "":
		return hint(usagef("it is not said where to listen"), "pass --socket PATH or --listen ADDRESS")
	case o.verifyClients && o.certificates == "":
		return usagef("--tls-verify-clients goes with --tls-certificates")
	case o.connections < 1 || o.connections > 4096:
		return usagef("--max-connections %d does not lie between 1 and 4096", o.connections)
	case o.idle < 0:
		return usagef("--idle-timeout %v is negative", o.idle)
	}
	return nil
}

// exportJSON is an export as --output-format json shows it.
type exportJSON struct {
	Name     string   `json:"name"`
	Size     int64    `json:"size"`
	Writable bool     `json:"writable"`
	Overlay  string   `json:"overlay,omitempty"`
	URIs     []string `json:"uris"`
}

func runNBDServe(ctx context.Context, a *app, snapshot string, archives []string, o nbdServeOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	return a.withDisks(ctx, snapshot, archives, o.disk, func(s repo.Snapshot, disks []*disk) error {
		opts := nbdserver.Options{MaxConnections: o.connections, IdleTimeout: o.idle, Log: a.log()}
		if err := o.secure(&opts); err != nil {
			return err
		}
		for _, d := range disks {
			opts.Exports = append(opts.Exports, &nbdserver.Export{
				Name: d.name.ClientName(), Description: d.name.ClientName() + " of " + show(s.Name()), Image: d.image,
			})
		}
		listeners, err := o.listeners(a)
		if err != nil {
			return err
		}
		server := nbdserver.New(opts)
		var exports []exportJSON
		for _, d := range disks {
			e := exportJSON{Name: d.name.ClientName(), Size: d.image.Size(), Writable: d.overlay != nil}
			if d.overlay != nil {
				e.Overlay = d.overlay.Path()
			}
			for _, l := range listeners {
				e.URIs = append(e.URIs, o.uri(l, e.Name).String())
			}
			exports = append(exports, e)
		}
		ready := func() error { return a.showExports(s, exports) }
		return serveAll(ctx, a, server, listeners, ready)
	})
}

// showExports says what is served where.
func (a *app) showExports(s repo.Snapshot, exports []exportJSON) error {
	err := a.print(map[string]any{"snapshot": show(s.Name()), "exports": exports}, func() error {
		for _, e := range exports {
			kind := "read-only"
			if e.Writable {
				kind = "changes go to " + e.Overlay
			}
			for _, u := range e.URIs {
				if err := a.printf("%s of %s, %s, %s: %s\n", e.Name, show(s.Name()), ui.Size(e.Size), kind, u); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return daemon.NotifyReady(fmt.Sprintf("serving %s of %s", plural(len(exports), "disk image"), show(s.Name())))
}

// serveAll serves until ctx ends or the server is idle for too long; the end
// that was asked for is none of the errors.
func serveAll(ctx context.Context, a *app, server *nbdserver.Server, listeners []net.Listener, ready func() error) error {
	results := make(chan error, len(listeners))
	serving, stop := context.WithCancel(ctx)
	defer stop()
	for _, l := range listeners {
		go func() { results <- server.Serve(serving, l) }()
	}
	err := ready()
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-results: // idle, or broken
			results <- err
		}
	}
	if nerr := daemon.NotifyStopping(); nerr != nil {
		a.warn("%v", nerr)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	serr := server.Shutdown(grace)
	stop()
	for range listeners {
		if rerr := <-results; rerr != nil && !errors.Is(rerr, nbdserver.ErrClosed) && ctx.Err() == nil {
			err = errors.Join(err, rerr)
		}
	}
	if errors.Is(serr, context.DeadlineExceeded) {
		serr = nil // clients that did not let go were cut off, which harms a backup in no way
	}
	return errors.Join(err, serr)
}

// listeners opens all of them, or none.
func (o nbdServeOptions) listeners(a *app) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
		}
	}()
	if o.socket != "" {
		l, err := nbdserver.ListenUnix(o.socket)
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	if o.listen == "" {
		return all, nil
	}
	address := o.listen
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(nbd.DefaultPort))
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return all, fmt.Errorf("listen on %s: %w", address, err)
	}
	all = append(all, l)
	if at, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !at.Addr().IsLoopback() && o.certificates == "" {
		a.warn("everyone who reaches %s can read these disks: --tls-certificates with --tls-verify-clients keeps others out", at)
	}
	return all, nil
}

// uri is the address under which a client opens an export.
func (o nbdServeOptions) uri(l net.Listener, export string) nbd.URI {
	u := nbd.URI{Export: export, TLS: o.certificates != ""}
	if at, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
		u.Host, u.Port = at.Addr().Unmap().String(), at.Port()
		if at.Addr().IsUnspecified() {
			u.Host = "localhost"
		}
		return u
	}
	u.Socket = l.Addr().String()
	if abs, err := filepath.Abs(u.Socket); err == nil {
		u.Socket = abs
	}
	return u
}
