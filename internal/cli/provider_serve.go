package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/spf13/cobra"
)

type providerServeOptions struct {
	providerOptions
	socket string
	walkFD int
}

func newProviderServeCommand(a *app) *cobra.Command {
	var o providerServeOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer calls of a platform, one JSON object a line",
		Long: `Answers the calls of the backup-provider interface of Proxmox VE over standard
input and output, or over a unix socket for any number of callers. Each line is
one JSON object; 'go doc' of internal/provider, and the guide, describe them.

When a caller goes away, what runs for it is aborted and what is open for it is
released: no backup stays half done, no file stays mounted.

The tree of a container is read by 'holdfast provider walk' in the container's
user namespace, which reports through the descriptor --walk-fd.`,
		Example: `  holdfast provider serve --repository /mnt/backup --storage pool --socket /run/holdfast/pool.sock`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runProviderServe(cmd.Context(), a, o)
		},
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "listen on this unix socket")
	f.IntVar(&o.walkFD, "walk-fd", -1, "a descriptor of a unix socket of type seqpacket, whose other end walkers inherit")
	return cmd
}

func runProviderServe(ctx context.Context, a *app, o providerServeOptions) error {
	if o.socket != "" && o.walkFD >= 0 {
		return usagef("--socket and --walk-fd exclude each other: one descriptor serves one caller")
	}
	return a.withProvider(ctx, o.providerOptions, func(store provider.Storage, opts provider.Options) error {
		if o.socket != "" {
			return a.serveProviderSocket(ctx, o.socket, store, opts)
		}
		if o.walkFD >= 0 {
			f := os.NewFile(uintptr(o.walkFD), "walk-fd")
			if f == nil {
				return usagef("--walk-fd %d is not open", o.walkFD)
			}
			var err error
			if opts.Walkers, err = provider.NewWalkers(f, opts.Scratch); err != nil {
				return err
			}
		}
		return a.serveProvider(ctx, store, opts, a.Stdin, a.Stdout)
	})
}

// serveProvider serves one caller.
func (a *app) serveProvider(ctx context.Context, store provider.Storage, opts provider.Options, in io.Reader, out io.Writer) (err error) {
	s := provider.New(store, opts)
	walking, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		if opts.Walkers == nil {
			ended <- nil
			return
		}
		ended <- opts.Walkers.Serve(walking, s)
	}()
	err = s.Serve(ctx, a.Version, in, out)
	stop()
	err = errors.Join(err, <-ended)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, s.Close(grace))
}

// serveProviderSocket serves all who connect; each has jobs of its own.
func (a *app) serveProviderSocket(ctx context.Context, path string, store provider.Storage, opts provider.Options) (err error) {
	l, err := nbdserver.ListenUnix(path)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	if err := daemon.NotifyReady("listening on " + path); err != nil {
		a.warn("%v", err)
	}
	for n := 0; ; n++ {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil // that is how it ends
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w", path, err)
		}
		own := opts
		own.Scratch = filepath.Join(opts.Scratch, fmt.Sprintf("caller-%d", n))
		all.Go(func() { a.serveProviderCaller(ctx, store, own, c) })
	}
}

func (a *app) serveProviderCaller(ctx context.Context, store provider.Storage, opts provider.Options, c net.Conn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := a.serveProvider(ctx, store, opts, c, c); err != nil && ctx.Err() == nil {
		a.warn("a caller: %v", err)
	}
	if err := os.Remove(opts.Scratch); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.warn("%v", err)
	}
}
