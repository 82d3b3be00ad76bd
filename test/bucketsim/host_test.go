package bucketsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// lease is how long sessions live without a sign of life.
const lease = 2 * time.Minute

// sizes make logs short enough to be trimmed in a schedule.
var sizes = ledger.Sizes{Checkpoint: 8, Ahead: 64, Behind: 160, Age: 12 * time.Hour}

// world is a schedule: a store, and hosts around it.
type world struct {
	seed  uint64
	grace time.Duration // how long garbage stays
	u     *universe
	store *simstore.World
	truth *truth

	mu   sync.Mutex
	dead map[catalog.Process]bool // processes that were killed
}

// random is a reader of random numbers by a seed.
type random struct {
	mu  sync.Mutex
	rng *rand.ChaCha8
}

func newRandom(seed uint64, name string) io.Reader {
	var b [32]byte
	copy(b[:], fmt.Sprintf("%d %s", seed, name))
	return &random{rng: rand.NewChaCha8(b)}
}

func (r *random) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Read(b)
}

func newRNG(seed uint64, name string) *rand.Rand {
	var b [32]byte
	copy(b[:], fmt.Sprintf("%d %s", seed, name))
	return rand.New(rand.NewChaCha8(b))
}

// host is a machine on which one process after the other works.
type host struct {
	w     *world
	name  string
	rng   *rand.Rand
	skew  time.Duration
	group names.Group
	runs  int
}

// process is one of them.
type process struct {
	*host
	id   catalog.Process
	way  *simstore.Process
	ctx  context.Context
	end  context.CancelCauseFunc
	repo *bucket.Repository
}

// start begins a process. It may be killed later.
func (h *host) start(ctx context.Context) *process {
	h.runs++
	p := &process{host: h, id: catalog.Process{Host: h.name, Boot: "b", PID: h.runs, Start: 1}}
	p.way = h.w.store.Process(fmt.Sprintf("%s/%d", h.name, h.runs))
	p.ctx, p.end = context.WithCancelCause(ctx)
	if h.rng.IntN(3) == 0 {
		p.way.KillAt(1+h.rng.IntN(200), func() {
			h.w.mu.Lock()
			h.w.dead[p.id] = true
			h.w.mu.Unlock()
			p.end(simstore.ErrKilled)
		})
	}
	return p
}

// options are those of everybody who opens the repository.
func (w *world) options(id catalog.Process, skew time.Duration) bucket.Options {
	name := fmt.Sprintf("%s/%d", id.Host, id.PID)
	return bucket.Options{
		Lease: lease, Process: id, Rand: newRandom(w.seed, name), Log: sizes,
		Now: func() time.Time { return time.Now().Add(skew) },
		Dead: func(o catalog.Process) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return o.Host == id.Host && w.dead[o]
		},
	}
}

// open opens the repository, as processes do when they begin.
func (p *process) open() error {
	jitter := newRNG(p.w.seed, "jitter "+p.name+fmt.Sprint(p.runs))
	var mu sync.Mutex
	s := retry.New(p.way, retry.Options{
		Tries: 6, First: 100 * time.Millisecond, Longest: 5 * time.Second,
		Jitter: func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(jitter.Int64N(int64(d) + 1))
		},
	})
	r, err := bucket.Open(p.ctx, s, p.w.options(p.id, p.skew))
	if err == nil {
		p.repo = r
	}
	return err
}

// work is a host's life: what it does is chosen by chance.
func (h *host) work(ctx context.Context, steps int, jobs []job) {
	p := h.start(ctx)
	defer func() { p.end(nil) }()
	for range steps {
		time.Sleep(h.while())
		if p.way.Dead() || h.rng.IntN(10) == 0 {
			p.end(errors.New("the process ended"))
			p = h.start(ctx)
		}
		if p.repo == nil {
			err := p.open()
			h.w.truth.heard("open", 0, err)
			if err != nil {
				continue
			}
		}
		if h.rng.IntN(12) == 0 {
			p.way.PauseAt(1+h.rng.IntN(30), h.while()/2)
		}
		jobs[h.rng.IntN(len(jobs))](p)
	}
}

// while is how long somebody waits: often not at all, seldom for a day.
func (h *host) while() time.Duration {
	longest := []time.Duration{time.Second, time.Second, time.Minute, 10 * time.Minute, 3 * time.Hour, 30 * time.Hour}[h.rng.IntN(6)]
	return 1 + time.Duration(h.rng.Int64N(int64(longest)))
}
