package cli

import (
	"context"
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"golang.org/x/sys/unix"
)

// backupContainer is service and walker in one process.
func (a *app) backupContainer(ctx context.Context, store provider.Storage, opts provider.Options, args string) (err error) {
	call, err := provider.ParseContainerCall([]byte(args))
	if err != nil {
		return usage(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	intro := os.NewFile(uintptr(pair[1]), "walker")
	defer func() { _ = intro.Close() }()
	if opts.Walkers, err = provider.NewWalkers(os.NewFile(uintptr(pair[0]), "walkers"), opts.Scratch); err != nil {
		return err
	}
	s := provider.New(store, opts)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- opts.Walkers.Serve(serving, s) }()
	err = s.BackupContainerPrepare(call.VMID, call.Archive, call.Prepared())
	if err == nil {
		err = provider.RunWalker(ctx, intro, call, a.providerLog)
	}
	stop()
	if err = errors.Join(err, <-ended, s.Close(serving)); err != nil {
		return explainProvider(err)
	}
	return ui.JSON.WriteJSON(a.Stdout, struct{}{})
}
