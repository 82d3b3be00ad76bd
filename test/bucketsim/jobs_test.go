package bucketsim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// shared is how many chunks many disks have.
const shared = 40

// job is something that a process does with an open repository.
type job func(*process)

// unsure reports whether an error leaves open what became of a change.
func unsure(err error) bool {
	return errors.Is(err, ledger.ErrUnknown) || errors.Is(err, simstore.ErrKilled)
}

// next is what the disk of a host holds next: it begins like one before, where there
// is one, with changes.
func (p *process) next() content {
	var c content
	p.w.truth.note(func() {
		var all []int64
		for at, g := range p.w.truth.group {
			if g == p.group && p.w.truth.tried[at] != nil {
				all = append(all, at)
			}
		}
		if slices.Sort(all); len(all) > 0 {
			c = slices.Clone(p.w.truth.tried[all[len(all)-1-p.rng.IntN(min(len(all), 2))]])
		} else {
			c = make(content, 6+p.rng.IntN(18))
			for i := range c {
				c[i] = p.rng.IntN(shared)
			}
		}
		for range p.rng.IntN(1 + len(c)/2) {
			i := p.rng.IntN(len(c))
			if p.rng.IntN(2) == 0 {
				c[i] = p.rng.IntN(shared)
				continue
			}
			p.w.truth.fresh++
			c[i] = p.w.truth.fresh
		}
	})
	return c
}

// pace is how a backup goes on: often without a rest, seldom with one that is long, during
// which its session gives signs of life.
func (p *process) pace() func() {
	slow := p.rng.IntN(3) == 0
	return func() {
		if slow && p.rng.IntN(8) == 0 {
			time.Sleep(p.while())
		}
	}
}

// backsUp makes a backup of the host's disk.
func backsUp(p *process) {
	ns := names.Namespace("")
	if p.rng.IntN(4) == 0 {
		ns = "a"
	}
	c, at := p.next(), p.w.truth.began(p.group)
	p.w.truth.note(func() { p.w.truth.tried[at] = c })
	n := names.Snapshot{NS: ns, Group: p.group, Time: at}
	ses, err := p.repo.Begin(p.ctx, repo.Begin{Snapshot: n})
	if err == nil {
		if p.rng.IntN(6) == 0 {
			p.way.PauseAt(1+p.rng.IntN(6), p.while()/2)
		}
		err = p.w.u.write(p.ctx, ses, c, p.pace())
	}
	if err == nil {
		p.w.truth.note(func() { p.w.truth.made[at] = true })
	}
	p.w.truth.heard("backup", 0, err)
}

// listed are the snapshots of the namespaces that there are.
func (p *process) listed() ([]names.Snapshot, error) {
	var all []names.Snapshot
	for _, ns := range []names.Namespace{"", "a"} {
		list, err := p.repo.Snapshots(p.ctx, ns, nil)
		if errors.Is(err, repo.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			if s.Finished {
				all = append(all, s.Snapshot)
			}
		}
	}
	return all, nil
}

// any is one of the snapshots that are listed.
func (p *process) any() (n names.Snapshot, ok bool) {
	kept := []int64(nil)
	p.w.truth.note(func() { kept = p.w.truth.kept() })
	all, err := p.listed()
	p.w.truth.heard("list", 0, err)
	if err != nil {
		return n, false
	}
	for _, at := range kept {
		if !slices.ContainsFunc(all, func(n names.Snapshot) bool { return n.Time == at }) && !p.moving() {
			p.w.truth.note(func() {
				if p.w.truth.aimed[at] == 0 {
					p.w.truth.wrong = append(p.w.truth.wrong, errors.New("a listing lacks a snapshot that was acknowledged before"))
				}
			})
		}
	}
	if len(all) == 0 {
		return n, false
	}
	return all[p.rng.IntN(len(all))], true
}

// moving reports whether somebody may move groups: then two listings together may miss one.
func (p *process) moving() bool {
	moved := false
	p.w.truth.note(func() { moved = p.w.truth.count["move begun"] > 0 })
	return moved
}

func restores(p *process) {
	n, ok := p.any()
	if !ok {
		return
	}
	want := p.w.truth.content(n.Time)
	if want == nil {
		p.w.truth.fail("snapshot %s is listed, and nobody made it", n)
		return
	}
	err := p.w.u.read(p.ctx, p.repo, n, want)
	p.w.truth.heard("restore", n.Time, err)
}

func forgets(p *process) {
	n, ok := p.any()
	if !ok {
		return
	}
	a := p.w.truth.remove(n.Group, n.Time)
	err := p.repo.Forget(p.ctx, n)
	switch {
	case err == nil:
		a.over(true, n.Time)
	case unsure(err):
		a.over(false)
	default:
		a.over(true)
	}
	p.w.truth.heard("forget", n.Time, ignore(err, repo.ErrNotFound, repo.ErrProtected))
}

// ignore is err, unless it is one of some kinds.
func ignore(err error, kinds ...error) error {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return nil
		}
	}
	return err
}

func forgetsGroup(p *process) {
	a := p.w.truth.remove(p.group, 0)
	_, err := p.repo.ForgetGroup(p.ctx, "", p.group)
	a.over(err != nil && !unsure(err)) // which of them were in the root is not known
	p.w.truth.heard("forget group", 0, ignore(err, repo.ErrNotFound))
}

func prunes(p *process) {
	a := p.w.truth.remove(p.group, 0)
	results, err := p.repo.Prune(p.ctx, repo.PruneOptions{Group: &p.group, Keep: retention.Options{Last: 1 + p.rng.IntN(2)}})
	var gone []int64
	unknown := err != nil
	for _, r := range results {
		switch {
		case r.Mark != retention.Remove:
		case r.Err == nil:
			gone = append(gone, r.Snapshot.Time)
		default:
			unknown = true
		}
	}
	a.over(!unknown, gone...)
	p.w.truth.heard("prune", 0, ignore(err, repo.ErrNotFound))
}

func protects(p *process) {
	if n, ok := p.any(); ok {
		p.w.truth.heard("protect", 0, ignore(p.repo.SetProtected(p.ctx, n, p.rng.IntN(3) == 0), repo.ErrNotFound))
	}
}

func annotates(p *process) {
	if n, ok := p.any(); ok {
		p.w.truth.heard("notes", 0, ignore(p.repo.SetNotes(p.ctx, n, strings.Repeat("x", p.rng.IntN(50))), repo.ErrNotFound))
	}
}

func moves(p *process) {
	from, to := names.Namespace(""), names.Namespace("a")
	if p.rng.IntN(2) == 0 {
		from, to = to, from
	}
	p.w.truth.note(func() { p.w.truth.count["move begun"]++ })
	err := p.repo.MoveGroup(p.ctx, from, p.group, to, true)
	p.w.truth.heard("move", 0, ignore(err, repo.ErrNotFound, repo.ErrExists))
}

func createsNamespace(p *process) {
	p.w.truth.heard("namespace", 0, ignore(p.repo.CreateNamespace(p.ctx, "a"), repo.ErrExists))
}

func logs(p *process) {
	n, ok := p.any()
	if !ok {
		return
	}
	raw, err := p.w.u.blob(content{1})
	if err == nil {
		err = p.repo.PutLog(p.ctx, n, raw)
	}
	p.w.truth.heard("log", 0, ignore(err, repo.ErrNotFound, repo.ErrExists))
}

// mends stores a snapshot anew.
func mends(p *process) {
	n, ok := p.any()
	if !ok {
		return
	}
	ses, err := p.repo.Mend(p.ctx, n)
	if err == nil {
		err = p.w.u.write(p.ctx, ses, p.w.truth.content(n.Time), p.pace())
	}
	p.w.truth.heard("mend", n.Time, err)
}

// refills brings back two snapshots that are older than what there is.
func refills(p *process) {
	f, err := p.repo.Refill(p.ctx)
	if err != nil {
		p.w.truth.heard("refill", 0, err)
		return
	}
	for range 2 {
		c, at := p.next(), p.w.truth.began(p.group)
		p.w.truth.note(func() { p.w.truth.tried[at] = c })
		if err = p.w.u.refill(p.ctx, f, names.Snapshot{Group: p.group, Time: at}, c); err != nil {
			break
		}
		p.w.truth.note(func() { p.w.truth.made[at] = true })
	}
	p.w.truth.heard("refill", 0, errors.Join(err, f.Close()))
}

func verifies(p *process) {
	p.w.truth.heard("verify", 0, p.verify())
}

// verify judges what a verification says of each snapshot.
func (p *process) verify() error {
	report, err := p.repo.Verify(p.ctx, repo.VerifyOptions{Workers: 1, Recursive: true})
	for _, v := range report.Snapshots {
		for _, err := range v.Errors {
			p.w.truth.heard("verify snapshot", v.Snapshot.Time, err)
		}
	}
	return err
}

// collects runs a garbage collection, which leaves what nobody needs for a while.
func collects(p *process) {
	_, err := p.repo.GC(p.ctx, repo.GCOptions{Cutoff: p.w.grace})
	p.w.truth.heard("collect", 0, err)
}

func deletesNamespace(p *process) {
	var all []*aim
	for _, g := range p.w.truth.groups() {
		all = append(all, p.w.truth.remove(g, 0))
	}
	err := p.repo.DeleteNamespace(p.ctx, "a", true)
	for _, a := range all {
		a.over(err != nil && !unsure(err))
	}
	p.w.truth.heard("delete namespace", 0, ignore(err, repo.ErrNotFound, repo.ErrProtected))
}
