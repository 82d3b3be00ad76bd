package mapping

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

// statusTimeout is how long a list waits for a daemon.
const statusTimeout = 2 * time.Second

// List returns all mappings of a run directory ("": the usual one), oldest
// first, with what their daemons say.
func List(ctx context.Context, runDir string) ([]Status, error) {
	dir, err := dirOr(runDir)
	if err != nil {
		return nil, err
	}
	rs, err := records(dir)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() { all[i] = r.status(ctx, dir) })
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

func (r Record) status(ctx context.Context, dir string) Status {
	s := Status{Record: r, State: Stale}
	on, err := held(dir, r.key)
	if err == nil && !on {
		return s
	}
	s.State = Starting
	if !r.Ready {
		return s
	}
	s.State = Live
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if a, err := ask(ctx, dir, r, request{Op: "status"}); err == nil {
		s.Counters = a.Counters
	} else if errors.Is(err, fs.ErrNotExist) {
		s.State = Starting // or ending
	}
	return s
}

func dirOr(dir string) (string, error) {
	if dir == "" {
		return RunDir()
	}
	return dir, nil
}
