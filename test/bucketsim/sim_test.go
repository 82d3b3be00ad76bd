package bucketsim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

var (
	schedules    = flag.Int("schedules", 150, "how many schedules to try")
	scheduleSeed = flag.Uint64("schedule-seed", 1, "the seed of the first one")
	scheduleDump = flag.Bool("schedule-dump", false, "print the log of the repository and its objects after each schedule")
)

// client and server are what hosts of the two kinds do, each as often as it is named.
func client() []job { return []job{backsUp, backsUp, backsUp, backsUp, restores, logs, annotates} }

func server() []job {
	return []job{
		restores, restores, forgets, forgets, prunes, forgetsGroup, protects, moves, createsNamespace, createsNamespace, deletesNamespace,
		annotates, backsUp, mends, refills, verifies, collects, collects, collects, collects,
	}
}

// keeper is a host that keeps a repository small.
func keeper() []job { return []job{collects, collects, collects, forgets, prunes, verifies} }

// late is how late a request can come.
const late = 5 * time.Minute

// faults are drawn anew for each schedule: some have none.
func faults(seed uint64, rng *rand.Rand) simstore.Options {
	rate := func() float64 { return float64(rng.IntN(4)) * .01 }
	return simstore.Options{
		Seed: seed, Latency: 20 * time.Millisecond, Late: late, Lag: 200 * time.Millisecond,
		LostRequest: rate(), LostAnswer: rate(), Delayed: rate(), Doubled: rate(), Busy: rate(), Cut: rate(), Stale: 3 * rate(),
	}
}

// schedule runs one seed, and judges it.
func (w *world) run(t *testing.T) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: go test ./test/bucketsim -args -schedules 1 -schedule-seed %d", w.seed, w.seed)
		}
	}()
	rng := newRNG(w.seed, "world")
	w.store, w.truth, w.dead = simstore.New(false, faults(w.seed, rng)), newTruth(), map[catalog.Process]bool{}
	o := bucket.CreateOptions{Options: w.options(catalog.Process{Host: "admin", PID: 1}, 0), PackSize: 4 << 10}
	if err := bucket.Create(t.Context(), w.store, o); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	w.grace = []time.Duration{0, time.Minute, 20 * time.Minute, 3 * time.Hour}[rng.IntN(4)]
	clients, servers, keepers := 1+rng.IntN(4), rng.IntN(3), 1+rng.IntN(2)
	for i := range clients + servers + keepers {
		h := &host{w: w, name: fmt.Sprintf("host%d", i), rng: newRNG(w.seed, fmt.Sprint("host", i))}
		h.group = names.Group{Type: "vm", ID: fmt.Sprint(100 + h.rng.IntN(max(1, clients-1)))}
		h.skew = time.Duration(h.rng.Int64N(int64(2*time.Hour))) - time.Hour
		jobs := client()
		if i >= clients {
			jobs = server()
		}
		if i >= clients+servers {
			jobs = keeper()
		}
		steps := 2 + rng.IntN(8)
		g.Go(func() { h.work(context.WithoutCancel(t.Context()), steps, jobs) })
	}
	g.Wait()
	w.store.Settle()
	time.Sleep(time.Hour) // no session has a lease any more
	if *scheduleDump {
		w.dump(t)
	}
	w.judge(t)
}

// judge looks at what is there, when everything has ended.
func (w *world) judge(t *testing.T) {
	for _, err := range w.truth.wrong {
		t.Error(err)
	}
	r, err := bucket.Open(t.Context(), w.store, w.options(catalog.Process{Host: "judge", PID: 1}, 0))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{host: &host{w: w, rng: newRNG(w.seed, "judge")}, ctx: t.Context(), repo: r}
	w.restoreAll(t, p)
	w.backUpAll(t, p)
	w.restoreAll(t, p)
	if err := p.verify(); err != nil {
		t.Errorf("I3: verification: %v", err)
	}
	w.collectAll(t, p)
	w.restoreAll(t, p)
	w.onlyWhatIsNeeded(t)
	if p.rng.IntN(3) == 0 { // in the end nothing is left
		w.forgetAll(t, p)
		w.collectAll(t, p)
		w.onlyWhatIsNeeded(t)
	}
	for _, err := range w.truth.wrong {
		t.Error(err)
	}
}

// forgetAll removes all snapshots, protected or not.
func (w *world) forgetAll(t *testing.T, p *process) {
	all, err := p.listed()
	for _, n := range all {
		a := w.truth.remove(n.Group, n.Time)
		err = errors.Join(err, p.repo.SetProtected(t.Context(), n, false), p.repo.Forget(t.Context(), n))
		a.over(true, n.Time)
	}
	if err != nil {
		t.Errorf("I3: removing all snapshots: %v", err)
	}
}

// restoreAll is I1 and I2.
func (w *world) restoreAll(t *testing.T, p *process) {
	all, err := p.listed()
	if err != nil {
		t.Fatal(err)
	}
	there := map[int64]bool{}
	for _, n := range all {
		there[n.Time] = true
		want := w.truth.tried[n.Time]
		if want == nil {
			t.Errorf("I2: %s is listed, and nobody made it", n)
			continue
		}
		if w.truth.removed[n.Time] {
			t.Errorf("I2: %s is listed, and was removed", n)
		}
		if err := w.u.read(t.Context(), p.repo, n, want); err != nil {
			t.Errorf("I2: %s: %v", n, err)
		}
	}
	for _, at := range w.truth.kept() {
		if !there[at] {
			t.Errorf("I1: snapshot %d was acknowledged, and is not there", at)
		}
	}
}

// backUpAll is I3.
func (w *world) backUpAll(t *testing.T, p *process) {
	for _, g := range w.truth.groups() {
		p.group = g
		c, at := p.next(), w.truth.began(g)
		w.truth.tried[at] = c
		ses, err := p.repo.Begin(t.Context(), repo.Begin{Snapshot: names.Snapshot{Group: g, Time: at}})
		if err == nil {
			err = w.u.write(t.Context(), ses, c, func() {})
		}
		if err != nil {
			t.Errorf("I3: the next backup of %s: %v", g, err)
			continue
		}
		w.truth.made[at] = true
	}
}

func TestHostsUnderAnySchedule(t *testing.T) {
	u := newUniverse(t)
	count := map[string]int{}
	for i := range *schedules {
		w := &world{seed: *scheduleSeed + uint64(i), u: u}
		synctest.Test(t, w.run)
		for what, n := range w.truth.count {
			count[what] += n
		}
	}
	t.Logf("%d schedules, seed %d", *schedules, *scheduleSeed)
	for _, what := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%8d %s", count[what], what)
	}
}
