package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Usage reports the capacity of the datastore.
func (r *Repository) Usage(ctx context.Context) (vfs.Usage, error) {
	var st items.Status
	if err := r.call(ctx, http.MethodGet, r.at("status"), nil, &st); err != nil {
		return vfs.Usage{}, fmt.Errorf("status of the datastore: %w", err)
	}
	return vfs.Usage{Total: st.Total, Used: st.Used, Available: st.Avail}, nil
}

// LastGC is the status of the last garbage collection.
func (r *Repository) LastGC(ctx context.Context) (repo.GCStatus, error) {
	var st items.GCJob
	if err := r.call(ctx, http.MethodGet, r.at("gc"), nil, &st); err != nil {
		return repo.GCStatus{}, fmt.Errorf("status of the garbage collection: %w", err)
	}
	return st.Status(), nil
}

// GC has the server collect garbage, with the settings of the datastore, and
// waits for it.
func (r *Repository) GC(ctx context.Context, g repo.GCOptions) (repo.GCStatus, error) {
	if g.DryRun {
		return repo.GCStatus{}, errors.New("collect garbage: a server does not do it on trial")
	}
	var id string
	if err := r.call(ctx, http.MethodPost, r.at("gc"), nil, &id); err != nil {
		return repo.GCStatus{}, fmt.Errorf("collect garbage: %w", err)
	}
	var warnings []string
	err := r.follow(ctx, id, func(line string) {
		_, text, _ := strings.Cut(line, ": ") // behind the time
		if w, ok := strings.CutPrefix(text, "WARN: "); ok {
			warnings = append(warnings, w)
		} else if phase, percent, ok := progressOf(text); ok && g.Progress != nil {
			g.Progress(repo.GCProgress{Phase: phase, Done: percent, Total: 100, Of: "percent"})
		}
	})
	if err != nil {
		return repo.GCStatus{}, fmt.Errorf("collect garbage: %w", err)
	}
	st, err := r.LastGC(ctx)
	st.Warnings = warnings
	return st, err
}

// progressOf understands the lines in which a collection tells how far it is:
// "marked 5% (..." and "processed 5% (...", or with a colon.
func progressOf(line string) (phase string, percent int, ok bool) {
	for word, phase := range map[string]string{"marked": "mark", "written anew": "rewrite", "processed": "sweep"} {
		if rest, ok := strings.CutPrefix(line, word); ok {
			number, _, ok := strings.Cut(strings.TrimLeft(rest, ": "), "%")
			n, err := strconv.Atoi(number)
			return phase, n, ok && err == nil && n >= 0 && n <= 100
		}
	}
	return "", 0, false
}

// Prune has the server prune groups, by its clock and in its time zone.
func (r *Repository) Prune(ctx context.Context, p repo.PruneOptions) ([]repo.PruneResult, error) {
	groups := []names.Group{}
	if p.Group != nil {
		groups = append(groups, *p.Group)
	} else {
		infos, err := r.Groups(ctx, p.Namespace)
		if err != nil {
			return nil, fmt.Errorf("prune: %w", err)
		}
		for _, i := range infos {
			groups = append(groups, i.Group)
		}
	}
	var all []repo.PruneResult
	for _, g := range groups {
		results, err := r.pruneGroup(ctx, p, g)
		all = append(all, results...)
		if err != nil {
			return all, fmt.Errorf("prune %s: %w", g, err)
		}
	}
	return all, nil
}

func (r *Repository) pruneGroup(ctx context.Context, p repo.PruneOptions, g names.Group) ([]repo.PruneResult, error) {
	q := ofGroup(p.Namespace, g)
	for name, n := range map[string]int{
		"last": p.Keep.Last, "hourly": p.Keep.Hourly, "daily": p.Keep.Daily,
		"weekly": p.Keep.Weekly, "monthly": p.Keep.Monthly, "yearly": p.Keep.Yearly,
	} {
		if n > 0 {
			q.Set("keep-"+name, strconv.Itoa(n))
		}
	}
	q.Set("dry-run", strconv.FormatBool(p.DryRun))
	var list []items.Pruned
	if err := r.call(ctx, http.MethodPost, r.at("prune"), q, &list); err != nil {
		return nil, err
	}
	results := make([]repo.PruneResult, len(list))
	removed := false
	for i, one := range list {
		s := names.Snapshot{NS: p.Namespace, Group: g, Time: one.Time}
		results[i] = repo.PruneResult{Snapshot: s, Mark: retention.Remove}
		switch {
		case one.Protected:
			results[i].Mark = retention.Protected
		case one.Keep:
			results[i].Mark = retention.Keep
		default:
			removed = true
		}
	}
	if p.DryRun || !removed {
		return results, nil
	}
	return results, r.left(ctx, p.Namespace, g, results)
}

// left notes what was to be removed and is still there: the answer does not tell.
func (r *Repository) left(ctx context.Context, ns names.Namespace, g names.Group, results []repo.PruneResult) error {
	infos, err := r.Snapshots(ctx, ns, &g)
	if errors.Is(err, repo.ErrNotFound) { // the group went with its last snapshot
		return nil
	}
	if err != nil {
		return err
	}
	there := map[names.Snapshot]bool{}
	for _, i := range infos {
		there[i.Snapshot] = true
	}
	for i := range results {
		if results[i].Mark == retention.Remove && there[results[i].Snapshot] {
			results[i].Err = errors.New("the server could not remove it: the log of its task says why")
		}
	}
	return nil
}

// Verify has the server verify snapshots and waits for it. Chunks that are
// encrypted are checked by their CRC: our key stays here.
func (r *Repository) Verify(ctx context.Context, v repo.VerifyOptions) (repo.VerifyReport, error) {
	q := inNamespace(v.Namespace)
	switch {
	case v.Snapshot != nil:
		q = ofSnapshot(*v.Snapshot)
	case v.Group != nil:
		q = ofGroup(v.Namespace, *v.Group)
	case !v.Recursive:
		q.Set("max-depth", "0")
	}
	q.Set("ignore-verified", strconv.FormatBool(v.IgnoreVerified))
	if days := int(v.OutdatedAfter / (24 * time.Hour)); days > 0 {
		q.Set("outdated-after", strconv.Itoa(days))
	}
	before, err := r.inScope(ctx, v)
	if err != nil {
		return repo.VerifyReport{}, fmt.Errorf("verify: %w", err)
	}
	rep, err := r.verify(ctx, v, q, before)
	if err != nil {
		return rep, fmt.Errorf("verify: %w", err)
	}
	return rep, nil
}

func (r *Repository) verify(ctx context.Context, v repo.VerifyOptions, q url.Values, before []repo.SnapshotInfo) (rep repo.VerifyReport, err error) {
	var id string
	if err := r.call(ctx, http.MethodPost, r.at("verify"), q, &id); err != nil {
		return rep, err
	}
	done := 0
	rep.Uncounted = true
	err = r.follow(ctx, id, func(line string) {
		if n, ok := items.ParseVerified(line); ok {
			rep.Chunks, rep.Bytes, rep.Uncounted = n.Chunks, n.Bytes, false
		}
		if strings.Contains(line, "verify "+r.addr.Store+":") && v.Progress != nil {
			done++
			v.Progress(repo.VerifyProgress{Done: min(done, len(before)), Total: len(before)})
		}
	})
	failed, ended := errors.AsType[*TaskError](err)
	if err != nil && !ended {
		return rep, err
	}
	after, aerr := r.inScope(ctx, v)
	if aerr != nil {
		return rep, aerr
	}
	bad := 0
	rep.Snapshots = verdicts(id, before, after)
	for _, s := range rep.Snapshots {
		bad += len(s.Errors)
		if v.Verdict != nil {
			v.Verdict(s)
		}
	}
	if ended && bad == 0 { // it failed for another reason than damage
		return rep, failed
	}
	return rep, nil
}

// inScope lists what is to be verified.
func (r *Repository) inScope(ctx context.Context, v repo.VerifyOptions) ([]repo.SnapshotInfo, error) {
	if v.Snapshot != nil {
		all, err := r.Snapshots(ctx, v.Snapshot.NS, &v.Snapshot.Group)
		for _, i := range all {
			if i.Snapshot == *v.Snapshot {
				return []repo.SnapshotInfo{i}, nil
			}
		}
		if err == nil {
			err = fmt.Errorf("snapshot %s: %w", *v.Snapshot, repo.ErrNotFound)
		}
		return nil, err
	}
	spaces := []names.Namespace{v.Namespace}
	if v.Recursive && v.Group == nil {
		below, err := r.Namespaces(ctx, v.Namespace)
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, below...)
	}
	var all []repo.SnapshotInfo
	for _, ns := range spaces {
		infos, err := r.Snapshots(ctx, ns, v.Group)
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			if i.Finished {
				all = append(all, i)
			}
		}
	}
	return all, nil
}

// verdicts reads the result of a task off the snapshots themselves: the verdict
// names the task that made it.
func verdicts(task string, before, after []repo.SnapshotInfo) (list []repo.VerifiedSnapshot) {
	now := map[names.Snapshot]repo.SnapshotInfo{}
	for _, i := range after {
		now[i.Snapshot] = i
	}
	for _, was := range before {
		one := repo.VerifiedSnapshot{Snapshot: was.Snapshot}
		switch is, there := now[was.Snapshot]; {
		case !there:
			one.Skipped = "vanished"
		case is.Verify == nil:
			one.Skipped = "in use"
		case is.Verify.UPID != task:
			one.Skipped = "verified already"
		case is.Verify.State != manifest.VerifyOK:
			one.Errors = []error{&repo.CorruptError{
				What: "snapshot " + was.Snapshot.String(), Err: fmt.Errorf("the server found damage; the log of its task %s lists it", task),
			}}
		}
		list = append(list, one)
	}
	return list
}
