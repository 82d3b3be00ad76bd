package daemon

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Listener returns the socket that the service manager has opened for this
// process, nil if there is none. Children do not get it.
func Listener() (net.Listener, error) {
	list, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("the socket of the service manager: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > 1 || list[0] == nil {
		for _, l := range list {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, fmt.Errorf("the service manager hands over %d sockets, want one that listens", len(list))
	}
	return list[0], nil
}

// Watchdog tells the service manager that the service lives, as often as that wants
// to hear it, until ctx ends. Each time alive is called before: a service that
// hangs in it is taken for dead.
func Watchdog(ctx context.Context, alive func()) error {
	most, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog of the service manager: %w", err)
	}
	if most <= 0 {
		return nil
	}
	for {
		alive()
		if err := notify(sd.SdNotifyWatchdog); err != nil {
			return err
		}
		select {
		case <-time.After(most / 2):
		case <-ctx.Done():
			return nil
		}
	}
}
