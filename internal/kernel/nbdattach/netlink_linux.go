package nbdattach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errNoFamily means that this kernel or network namespace has no nbd family.
var errNoFamily = errors.New("no generic netlink family \"nbd\" here")

// ask sends one command. A command without an answer of its own is
// acknowledged by the kernel.
func ask(ctx context.Context, command uint8, attributes []byte, answers bool) ([]byte, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoFamily, err)
	}
	defer func() { _ = c.Close() }()
	deadline := time.Now().Add(10 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	fam, err := c.GetFamily(family)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoFamily
	}
	if err != nil {
		return nil, fmt.Errorf("look up the netlink family: %w", err)
	}
	flags := netlink.Request
	if !answers {
		flags |= netlink.Acknowledge
	}
	m := genetlink.Message{Header: genetlink.Header{Command: command, Version: familyVersion}, Data: attributes}
	replies, err := c.Execute(m, fam.ID, flags)
	if err != nil {
		return nil, err
	}
	if !answers || len(replies) == 0 {
		return nil, nil
	}
	return replies[0].Data, nil
}

func connect(ctx context.Context, o Options) (int, error) {
	b, err := encodeConnect(o)
	if err != nil {
		return 0, err
	}
	answer, err := ask(ctx, cmdConnect, b, true)
	if errors.Is(err, unix.EBUSY) {
		return 0, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return 0, err
	}
	return decodeIndex(answer)
}

// Reconfigure gives a connected device new sockets or other times and flags.
func Reconfigure(ctx context.Context, o Options) error {
	b, err := encodeReconfigure(o)
	if err == nil {
		_, err = ask(ctx, cmdReconfigure, b, false)
	}
	if err != nil {
		return fmt.Errorf("reconfigure %s: %w", Path(o.Index), err)
	}
	return nil
}

// Connected asks the kernel which devices there are and which are connected.
func Connected(ctx context.Context) (map[int]bool, error) {
	answer, err := ask(ctx, cmdStatus, nil, true)
	if err != nil {
		return nil, fmt.Errorf("status of nbd devices: %w", err)
	}
	return decodeStatus(answer)
}

func disconnect(ctx context.Context, index int) error {
	b, err := encodeIndex(index)
	if err != nil {
		return err
	}
	_, err = ask(ctx, cmdDisconnect, b, false)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTCONN) { // what the kernel says of a free one
		return nil
	}
	return err
}
