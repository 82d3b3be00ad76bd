package replicate

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// group copies one group; there is what the target has of it, nil for nothing.
func (r *run) group(ctx context.Context, p pair, g repo.GroupInfo, there *repo.GroupInfo) error {
	owner := r.Owner
	var has []repo.SnapshotInfo
	if there != nil {
		if err := r.mine(there.Owner); err != nil {
			return err
		}
		var err error
		if has, err = r.dst.Snapshots(ctx, p.to, &g.Group); err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
	}
	if there == nil && owner == "" && r.KeepOwner {
		owner = g.Owner
	}
	list, err := r.src.Snapshots(ctx, p.from, &g.Group)
	if errors.Is(err, repo.ErrNotFound) { // removed since it was listed: next time it has vanished
		return nil
	}
	if err != nil {
		return atSource(err)
	}
	todo := decide(list, has, r.Options)
	r.logf("sync group %s: %s", inside(p.from, g.Group.String()), todo)
	whole := true
	for _, s := range todo.steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		done, err := r.step(ctx, p, s, owner)
		if err != nil && !damaged(err) {
			return fmt.Errorf("snapshot %s: %w", s.snap.Snapshot, err)
		}
		if err != nil { // the newer ones may be sound, and are what is needed most
			r.fail("snapshot "+inside(p.from, s.snap.Snapshot.String()), err)
			whole = false
		}
		whole = whole && done
	}
	if !whole {
		return nil
	}
	for _, s := range todo.gone {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.logf("remove vanished snapshot %s", inside(p.to, s.Snapshot.String()))
		switch err := r.dst.Forget(ctx, s.Snapshot); {
		case errors.Is(err, repo.ErrProtected), errors.Is(err, repo.ErrNotFound):
		case err != nil:
			return fmt.Errorf("vanished snapshot: %w", err)
		default:
			r.count.removedSnapshots.Add(1)
		}
	}
	return nil
}

// step does one step. done is false when the source did not have it any more.
func (r *run) step(ctx context.Context, p pair, s step, owner string) (done bool, err error) {
	to := s.snap.Snapshot
	to.NS = p.to
	if s.verb == addLog {
		if err := r.addLog(ctx, s.snap.Snapshot, to); err != nil && ctx.Err() == nil {
			r.logf("log of %s: %v", inside(p.from, to.String()), err) // it may come next time
		}
		return true, nil
	}
	if s.leftover {
		if err := r.dst.Forget(ctx, to); err != nil && !errors.Is(err, repo.ErrNotFound) {
			return false, fmt.Errorf("what an earlier run left of it: %w", err)
		}
	}
	snap, err := r.src.Open(ctx, s.snap.Snapshot)
	if errors.Is(err, repo.ErrNotFound) {
		r.logf("snapshot %s was removed meanwhile", inside(p.from, to.String()))
		return false, nil
	}
	if err != nil {
		return false, atSource(err)
	}
	defer func() {
		if cerr := snap.Close(); cerr != nil {
			r.logf("snapshot %s: %v", inside(p.from, to.String()), cerr) // what was read is good
		}
	}()
	before := r.count.stats()
	if s.verb == mend {
		err = r.copy(ctx, snap, to, func() (repo.Session, error) { return r.mender.Mend(ctx, to) })
	} else {
		err = r.copy(ctx, snap, to, func() (repo.Session, error) {
			return r.dst.Begin(ctx, repo.Begin{Snapshot: to, Owner: owner})
		})
	}
	if err != nil {
		return false, err
	}
	word := "copied"
	if s.verb == mend {
		word = "mended"
		r.count.mended.Add(1)
	} else {
		r.count.snapshots.Add(1)
	}
	now := r.count.stats()
	if r.Groups > 1 { // what is counted is of all groups
		r.logf("%s snapshot %s", word, inside(p.to, to.String()))
		return true, nil
	}
	r.logf("%s snapshot %s: %d chunks, %d bytes; %d chunks were there", word, inside(p.to, to.String()),
		now.Chunks-before.Chunks, now.Bytes-before.Bytes, now.Known-before.Known)
	return true, nil
}

// addLog copies the client's log if the source has one and the target has none.
func (r *run) addLog(ctx context.Context, from, to names.Snapshot) error {
	if has, err := readLog(ctx, r.dst, to); err != nil || has != nil {
		return err
	}
	raw, err := readLog(ctx, r.src, from)
	if err != nil || raw == nil {
		return err
	}
	if err := r.dst.PutLog(ctx, to, raw); err != nil && !errors.Is(err, repo.ErrExists) {
		return err
	}
	return nil
}

// readLog returns the log of a snapshot, nil if there is none.
func readLog(ctx context.Context, in repo.Repository, s names.Snapshot) (raw []byte, err error) {
	snap, err := in.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return logOf(snap)
}

func logOf(snap repo.Snapshot) ([]byte, error) {
	raw, err := snap.Blob(names.ClientLog)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		_, err = blob.Check(raw)
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// String tells people what is to be done.
func (p plan) String() string {
	n := [3]int{}
	for _, s := range p.steps {
		n[s.verb]++
	}
	text := fmt.Sprintf("%d to copy", n[add])
	for _, more := range []struct {
		n    int
		what string
	}{
		{n[mend], "to mend"},
		{len(p.gone), "vanished"},
		{p.old, "older than what is there"},
		{p.cut, "not among the newest"},
		{p.filter, "filtered out"},
		{p.running, "not finished"},
	} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}
