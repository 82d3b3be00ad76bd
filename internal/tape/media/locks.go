package media

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// noPool is the name under which media without pool are locked.
const noPool = "__UNASSIGNED__"

// LockPool lets nobody else add media to a pool. "" is for media without pool.
func (s *State) LockPool(ctx context.Context, pool string) (unlock func() error, err error) {
	if pool == "" {
		pool = noPool
	}
	unlock, err = s.d.Lock(ctx, lockName(".pool-"+pool), lockTime)
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", pool, err)
	}
	return unlock, nil
}

// LockSet lets nobody else change a media set or its catalogs. Who reads media of
// a set has its lock too, so that they are not overwritten meanwhile.
func (s *State) LockSet(ctx context.Context, set uuid.UUID) (unlock func() error, err error) {
	return s.lockSet(ctx, set, lockTime)
}

func (s *State) lockSet(ctx context.Context, set uuid.UUID, wait time.Duration) (unlock func() error, err error) {
	unlock, err = s.d.Lock(ctx, lockName(".media-set-"+set.String()), wait)
	if err != nil {
		return nil, fmt.Errorf("media set %s: %w", set, err)
	}
	return unlock, nil
}

// lockName replaces what PBS takes for an extension. So the pools a.b and a.c
// share a lock, .pool-a.lck.
func lockName(name string) string {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	return name + ".lck"
}
