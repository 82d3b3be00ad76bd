package mapping

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
)

// UnmapOptions says how to unmap.
type UnmapOptions struct {
	// Force takes the device away from its users, who get errors, and kills a
	// daemon that does not answer.
	Force bool
	All   bool          // every mapping; which is ignored
	Wait  time.Duration // for each; 0: 10 s
}

// Unmap ends the mapping that which names (see find), and waits until it is
// gone. What it ended is returned.
func Unmap(ctx context.Context, runDir, which string, o UnmapOptions) ([]Record, error) {
	dir, err := dirOr(runDir)
	if err != nil {
		return nil, err
	}
	if o.Wait <= 0 {
		o.Wait = endTimeout
	}
	rs, err := records(dir)
	if err != nil {
		return nil, err
	}
	if !o.All {
		r, err := find(rs, which)
		if err != nil {
			if errors.Is(err, ErrNotMapped) {
				err = foreign(which, err)
			}
			return nil, fmt.Errorf("unmap: %w", err)
		}
		rs = []Record{r}
	}
	var done []Record
	var errs []error
	for _, r := range rs {
		if err := unmap(ctx, dir, r, o); err != nil {
			errs = append(errs, fmt.Errorf("unmap: %w", err))
			continue
		}
		done = append(done, r)
	}
	return done, errors.Join(errs...)
}

func unmap(ctx context.Context, dir string, r Record, o UnmapOptions) error {
	on, err := held(dir, r.key)
	if err != nil {
		return err
	}
	if !on {
		return cleanKey(ctx, dir, r.key, o.Force)
	}
	talk, cancel := context.WithTimeout(ctx, o.Wait+probeTime+time.Second)
	defer cancel()
	a, err := ask(talk, dir, r, request{Op: "stop", Force: o.Force, Wait: o.Wait})
	switch {
	case err != nil:
		if still, e := held(dir, r.key); e == nil && !still {
			break // it ended before it could answer
		}
		if !o.Force {
			return fmt.Errorf("the process of %s (%d) does not answer; it may be starting, or hang (force kills it): %w", r.Name, r.PID, err)
		}
		if err := process.Kill(r.PID, r.StartTime); err != nil {
			return err
		}
	case a.Busy:
		return &BusyError{r, a.Holders}
	case a.Error != "":
		return fmt.Errorf("%s: %s", r.Name, a.Error)
	}
	if err := waitUnheld(dir, r.key, o.Wait); err != nil {
		if !o.Force {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		if err := process.Kill(r.PID, r.StartTime); err != nil {
			return err
		}
		lastResort(r)
		if err := waitUnheld(dir, r.key, o.Wait); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	return cleanKey(ctx, dir, r.key, o.Force)
}

// Cleanup removes what dead daemons left. It returns the records that are gone.
func Cleanup(ctx context.Context, runDir string) ([]Record, error) {
	dir, err := dirOr(runDir)
	if err != nil {
		return nil, err
	}
	ks, err := keys(dir)
	if err != nil {
		return nil, err
	}
	var done []Record
	var errs []error
	for _, k := range ks {
		if on, err := held(dir, k); err != nil || on {
			errs = append(errs, err)
			continue
		}
		r, _ := readRecord(dir, k)
		if err := cleanKey(ctx, dir, k, false); err != nil {
			errs = append(errs, err)
			continue
		}
		if r.ID != "" {
			done = append(done, r)
		}
	}
	return done, errors.Join(errs...)
}

// cleanKey cleans up after a dead daemon, holding its lock.
func cleanKey(ctx context.Context, dir, key string, force bool) error {
	lock, err := lockKey(dir, key)
	if errors.Is(err, errLocked) {
		return nil // mapped again by somebody else
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	r, err := readRecord(dir, key)
	switch {
	case err == nil:
		ctx, cancel := context.WithTimeout(ctx, endTimeout)
		defer cancel()
		if err := release(ctx, r, force); err != nil {
			return err
		}
	case errors.Is(err, os.ErrPermission):
		return err
	default: // it ended well meanwhile, or says nothing
		r = Record{key: key}
	}
	return errors.Join(removeFiles(dir, r), unlock(dir, key, lock))
}
