package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// containerCall is the one call that a walker makes.
const containerCall = "backup_container"

// runProviderCall does one call.
func runProviderCall(ctx context.Context, a *app, o providerOptions, name, args string) error {
	return a.withProvider(ctx, o, func(store provider.Storage, opts provider.Options) (err error) {
		if name == containerCall {
			return a.backupContainer(ctx, store, opts, args)
		}
		s := provider.New(store, opts)
		defer func() {
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, s.Close(grace))
		}()
		result, err := a.providerCall(ctx, s, name, args)
		if err != nil {
			return explainProvider(err)
		}
		if err := ui.JSON.WriteJSON(a.Stdout, result); err != nil {
			return err
		}
		if strings.HasPrefix(name, "restore_") && strings.HasSuffix(name, "_init") {
			a.waitForEnd(ctx)
		}
		return nil
	})
}

// providerCall does a call; that for one disk opens the archive first.
func (a *app) providerCall(ctx context.Context, s *provider.Service, name, args string) (any, error) {
	if name == "restore_vm_volume_init" {
		var archive struct {
			Name string `json:"volname"`
		}
		if err := json.Unmarshal([]byte(args), &archive); err != nil {
			return nil, usage(fmt.Errorf("--args: %w", err))
		}
		if _, err := s.RestoreVMInit(ctx, archive.Name); err != nil {
			return nil, err
		}
	}
	return s.Call(ctx, a.providerLog, name, []byte(args))
}

// providerLog shows a line of a service's log.
func (a *app) providerLog(level provider.Level, text string) {
	if level == provider.Info {
		a.say("%s", text)
	} else {
		a.warn("%s", text)
	}
}

func explainProvider(err error) error {
	if errors.Is(err, provider.ErrUsage) {
		return usage(err)
	}
	return explainBackup(err)
}

// waitForEnd waits until standard input or ctx ends.
func (a *app) waitForEnd(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, a.Stdin)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func newProviderWalkCommand(a *app) *cobra.Command {
	fd := -1
	cmd := &cobra.Command{
		Use:   "walk --walk-fd FD",
		Short: "Read the tree of a container for a service",
		Long: `Does the call backup_container in the user namespace of a container: it reads
the tree there, with the container's own users, and hands it to the service at
the other end of an inherited descriptor. The arguments are one line of JSON on
standard input, which must then stay open: when it ends early, the backup is
aborted. Answers are lines of JSON as those of 'holdfast provider serve'.`,
		Example: `  holdfast provider walk --walk-fd 7 < call.json`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runProviderWalk(cmd.Context(), a, fd)
		},
	}
	cmd.Flags().IntVar(&fd, "walk-fd", -1, "the descriptor")
	return cmd
}

func runProviderWalk(ctx context.Context, a *app, fd int) error {
	if fd < 0 {
		return usagef("--walk-fd is missing")
	}
	intro := os.NewFile(uintptr(fd), "walk-fd")
	if intro == nil {
		return usagef("--walk-fd %d is not open", fd)
	}
	defer func() { _ = intro.Close() }()
	return provider.ServeWalk(ctx, intro, a.Stdin, a.Stdout)
}
