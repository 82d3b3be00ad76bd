package qemu

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/proto/agent"
)

var errFreeze = errors.New("the guest did not freeze in time")

// freeze freezes the guest if there is an agent. thaw must be called in any
// case.
func (p *point) freeze(ctx context.Context) (thaw func() error, err error) {
	none := func() error { return nil }
	if p.g.opts.Agent == "" || !p.running {
		if p.g.opts.MustFreeze {
			return none, errors.New("the guest cannot be frozen: it does not run, or its agent's socket was not named")
		}
		return none, nil
	}
	c, err := agent.Dial(ctx, p.g.opts.Agent)
	if err != nil {
		return none, p.cannotFreeze(err)
	}
	p.state.Frozen = true
	if err := p.save(ctx); err != nil {
		return none, errors.Join(err, c.Close())
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.g.opts.FreezeWait, errFreeze)
	defer cancel()
	n, err := c.Freeze(limited)
	thaw = func() error { return errors.Join(p.thaw(context.WithoutCancel(ctx), c), c.Close()) }
	if err != nil {
		if terr := thaw(); terr != nil { // it may have frozen all the same
			return none, errors.Join(err, terr)
		}
		return none, p.cannotFreeze(err)
	}
	p.g.log.Debug("guest is frozen", "filesystems", n)
	return thaw, nil
}

func (p *point) cannotFreeze(err error) error {
	if p.g.opts.MustFreeze {
		return fmt.Errorf("freeze the guest: %w", err)
	}
	p.g.log.Warn("the guest's file systems were not frozen: its disks are as after a power cut", "error", err)
	return nil
}

func (p *point) thaw(ctx context.Context, c *agent.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.g.opts.FreezeWait, errors.New("the guest did not thaw in time"))
	defer cancel()
	if _, err := c.Thaw(ctx); err != nil {
		return fmt.Errorf("the guest may still be frozen: %w", err)
	}
	p.state.Frozen = false
	return p.save(ctx)
}
