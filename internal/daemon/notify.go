package daemon

import (
	"fmt"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady tells the service manager, if it started this process and wants
// to know, that the service works; status is shown in its listings.
func NotifyReady(status string) error {
	return notify(sd.SdNotifyReady + "\nSTATUS=" + status)
}

// NotifyStopping tells it that the service ends.
func NotifyStopping() error { return notify(sd.SdNotifyStopping) }

func notify(state string) error {
	if _, err := sd.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
