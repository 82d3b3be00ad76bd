package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
)

var (
	schedules    = flag.Int("schedules", 200, "how many schedules of writers to try")
	scheduleSeed = flag.Uint64("schedule-seed", 1, "the first one's seed")
)

// small are sizes at which everything happens soon. A listing lags by fewer entries than lie
// between the two distances.
var small = ledger.Sizes{Checkpoint: 4, Ahead: 12, Behind: 24, Age: 10 * time.Minute}

// done is what was acknowledged, and when.
type done struct {
	id         string
	begin, end time.Time
	seq        uint64
}

// looked is a view and when it was asked for.
type looked struct {
	begin, end time.Time
	state      ledger.State
}

// history is what all processes of a schedule learned.
type history struct {
	mu      sync.Mutex
	made    []done
	open    map[string]bool // whoever asked does not know
	refused map[string]bool
	views   []looked
	corrupt []error
}

// writer is one process.
type writer struct {
	t    *testing.T
	name string
	p    *simstore.Process
	rng  *rand.Rand
	h    *history
	opt  ledger.Options
}

// random is the reader of a process's random numbers.
type random struct {
	mu  sync.Mutex
	rng *rand.ChaCha8
}

func (r *random) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Read(b)
}

func newRandom(seed uint64) io.Reader {
	var b [32]byte
	for i := range 8 {
		b[i] = byte(seed >> (8 * i))
	}
	return &random{rng: rand.NewChaCha8(b)}
}

// add counts: the key of the operation gets the number that it is.
func add(id string) func(*ledger.Tx) error {
	return func(tx *ledger.Tx) error {
		total := 0
		if b, ok := tx.Get("total"); ok {
			if err := json.Unmarshal(b, &total); err != nil {
				return err
			}
		}
		total++
		tx.Set("total", fmt.Append(nil, total))
		tx.Set("op/"+id, fmt.Append(nil, total))
		return nil
	}
}

var errRefused = errors.New("refused")

// run works until it is done or killed.
func (w *writer) run(ctx context.Context) {
	var l *ledger.Ledger
	for n := range 30 {
		if ctx.Err() != nil {
			return
		}
		if w.rng.IntN(8) == 0 {
			l = nil // a new process on the same host
		}
		if l == nil {
			var err error
			if l, err = ledger.Open(ctx, w.p, w.opt); err != nil {
				w.note(err)
				continue
			}
		}
		switch w.rng.IntN(16) {
		case 0:
			w.note(l.Trim(ctx))
		case 1, 2, 3:
			w.view(ctx, l)
		case 4:
			w.refuse(ctx, l)
		case 5:
			time.Sleep(time.Duration(w.rng.Int64N(int64(30 * time.Minute))))
		case 6:
			w.p.Pause(time.Duration(w.rng.Int64N(int64(30 * time.Minute))))
			w.add(ctx, l, n)
		default:
			w.add(ctx, l, n)
		}
	}
}

func (w *writer) note(err error) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	if _, bad := errors.AsType[*ledger.CorruptError](err); bad || errors.Is(err, ledger.ErrNotFound) {
		w.h.corrupt = append(w.h.corrupt, fmt.Errorf("%s: %w", w.name, err))
	}
}

func (w *writer) add(ctx context.Context, l *ledger.Ledger, n int) {
	id := fmt.Sprintf("%s-%d", w.name, n)
	begin := time.Now()
	seq, err := l.Update(ctx, add(id))
	w.note(err)
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	switch {
	case err == nil:
		w.h.made = append(w.h.made, done{id, begin, time.Now(), seq})
	case errors.Is(err, ledger.ErrUnknown):
		w.h.open[id] = true
	default:
		w.h.refused[id] = true // it says that nothing was changed
	}
}

// refuse decides not to change anything. What it decided from was the newest.
func (w *writer) refuse(ctx context.Context, l *ledger.Ledger) {
	begin := time.Now()
	total := 0
	_, err := l.Update(ctx, func(tx *ledger.Tx) error {
		total = 0
		for range tx.Scan("op/") {
			total++
		}
		tx.Set("refused", []byte("true"))
		return errRefused
	})
	w.note(err)
	if !errors.Is(err, errRefused) {
		return
	}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	for _, d := range w.h.made {
		if d.end.Before(begin) {
			total--
		}
	}
	if total < 0 {
		w.t.Errorf("%s refused by a state that lacks %d acknowledged changes", w.name, -total)
	}
}

func (w *writer) view(ctx context.Context, l *ledger.Ledger) {
	begin := time.Now()
	s, err := l.View(ctx)
	w.note(err)
	if err != nil {
		return
	}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.h.views = append(w.h.views, looked{begin, time.Now(), s})
}

// schedule runs writers under one seed, and judges.
func schedule(t *testing.T, seed uint64) outcome {
	rng := rand.New(rand.NewPCG(seed, 1))
	rate := func() float64 { return float64(rng.IntN(3)) * .02 }
	o := simstore.Options{
		Seed: seed, Latency: 20 * time.Millisecond, Late: time.Hour, Lag: 30 * time.Millisecond,
		LostRequest: rate(), LostAnswer: rate(), Delayed: rate(), Doubled: rate(), Busy: rate(), Cut: rate(), Stale: 5 * rate(),
	}
	w := simstore.New(false, o)
	h := &history{open: map[string]bool{}, refused: map[string]bool{}}
	if err := ledger.Create(t.Context(), w, ledger.Options{Sizes: small, Rand: newRandom(seed)}, map[string][]byte{"total": []byte("0")}); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for i := range 2 + rng.IntN(6) {
		name := fmt.Sprintf("w%d", i)
		me := &writer{t: t, name: name, p: w.Process(name), rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), h: h}
		skew := time.Duration(rng.Int64N(int64(20*time.Minute))) - 10*time.Minute
		me.opt = ledger.Options{Who: name, Sizes: small, Rand: newRandom(seed<<8 + uint64(i)), Now: func() time.Time { return time.Now().Add(skew) }}
		ctx, cancel := context.WithCancelCause(t.Context())
		if rng.IntN(3) == 0 {
			me.p.KillAt(1+rng.IntN(150), func() { cancel(simstore.ErrKilled) })
		}
		g.Go(func() {
			defer cancel(nil)
			me.run(ctx)
		})
	}
	g.Wait()
	w.Settle()
	h.judge(t, w)
	return outcome{len(h.made), len(h.open), !there(t, w, key("log", 1))}
}

// outcome is what happened in a schedule.
type outcome struct {
	made, unknown int
	trimmed       bool
}

// judge compares what the processes were told with what is there.
func (h *history) judge(t *testing.T, s objstore.Store) {
	for _, err := range h.corrupt {
		t.Errorf("the log is said to be damaged: %v", err)
	}
	l, err := ledger.Open(t.Context(), s, ledger.Options{Sizes: small})
	if err != nil {
		t.Fatal(err)
	}
	end := l.Seen()
	order := orderOf(t, end)
	for _, d := range h.made {
		if order[d.id] == 0 {
			t.Errorf("%s was acknowledged as entry %d and is not there", d.id, d.seq)
		}
	}
	for id := range h.refused {
		if order[id] != 0 {
			t.Errorf("%s was said not to be made, and is there", id)
		}
	}
	for _, a := range h.made {
		for _, b := range h.made {
			if a.end.Before(b.begin) && (order[a.id] >= order[b.id] || a.seq >= b.seq) {
				t.Errorf("%s ended before %s began, and comes after it", a.id, b.id)
			}
		}
	}
	for _, v := range h.views {
		seen := orderOf(t, v.state)
		for id, n := range seen {
			if order[id] != n {
				t.Errorf("a view has %s as %d, in the end it is %d", id, n, order[id])
			}
		}
		for _, d := range h.made {
			if d.end.Before(v.begin) && seen[d.id] == 0 {
				t.Errorf("a view lacks %s, which was acknowledged before", d.id)
			}
			if d.begin.After(v.end) && seen[d.id] != 0 {
				t.Errorf("a view has %s, which was begun after it", d.id)
			}
		}
	}
}

// orderOf is which operation was which. Each number is there once.
func orderOf(t *testing.T, s ledger.State) map[string]int {
	ops, taken := map[string]int{}, map[int]string{}
	for key, b := range s.Scan("op/") {
		n := 0
		if err := json.Unmarshal(b, &n); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimPrefix(key, "op/")
		if other := taken[n]; other != "" {
			t.Errorf("%s and %s were both the %d. operation", id, other, n)
		}
		ops[id], taken[n] = n, id
	}
	if b, _ := s.Get("total"); string(b) != fmt.Sprint(len(ops)) {
		t.Errorf("%d operations are there, %s were counted", len(ops), b)
	}
	return ops
}

func TestWritersUnderAnyScheduleMakeOneOrder(t *testing.T) {
	made, unknown, trimmed := 0, 0, 0
	for i := range *schedules {
		seed := *scheduleSeed + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			o := schedule(t, seed)
			made, unknown = made+o.made, unknown+o.unknown
			if o.trimmed {
				trimmed++
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d: go test ./internal/ledger -run AnySchedule -args -schedules 1 -schedule-seed %d", seed, seed)
		}
	}
	t.Logf("%d schedules, seed %d: %d changes made, %d unknown, %d logs trimmed", *schedules, *scheduleSeed, made, unknown, trimmed)
	if *schedules >= 100 && (made == 0 || unknown == 0 || trimmed == 0) {
		t.Error("the schedules do not try what they are for")
	}
}
