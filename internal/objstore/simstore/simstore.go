// Package simstore is an object store in memory that several simulated processes
// share. Each has a way of its own to it: requests take time and overtake each other, get
// lost, arrive late or twice, answers get lost, listings lag, a process stops for a while
// or is killed between any two requests. It is made for the virtual time of
// testing/synctest.
//
// # What is chosen, and how
//
// Everything is drawn from a seed. A draw depends on the process, the call, the key and how often
// there was that very call before, and on nothing else: so goroutines that happen to run in another order draw
// the same. Two runs of one seed are the same as far as what runs on the store is deterministic.
//
// # Faults
//
// Options say how often each happens. What they do keeps what package objstore promises:
// an error that leaves open what became of a call, or a busy store that did
// nothing. A request that is late or doubled may take effect after its caller was told of an error, and
// even after it was killed. Only [Options.Stale] takes back a promise: a listing may be what it was a while ago.
package simstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
)

// ErrKilled is what all calls of a killed process give.
var ErrKilled = errors.New("the process was killed")

// errLost is what a caller hears of a call whose answer never came.
var errLost = errors.New("the connection broke")

// Options say what happens. Rates are between 0 and 1, each is drawn for each call.
type Options struct {
	Seed    uint64
	Latency time.Duration // the longest way of a request, and of an answer
	Late    time.Duration // how late a request can be
	Lag     time.Duration // how old a listing can be

	LostRequest float64 // nothing happens, and the caller is told of an error
	LostAnswer  float64 // it happens, and the caller is told of an error
	Delayed     float64 // it happens later, and the caller is told of an error
	Doubled     float64 // it happens twice, and the answer is that of one of them
	Busy        float64 // nothing happens, and the store says so
	Cut         float64 // what is read ends early
	Stale       float64 // a listing lags
}

// World is the store behind all processes.
type World struct {
	*mem.Store // as it is, without any fault
	opt        Options
	late       sync.WaitGroup // requests on their way without anybody who waits for them

	mu     sync.Mutex
	recent []change // what a listing that lags does not know
}

// change is one object that came or went.
type change struct {
	at  time.Time
	key string
	was *objstore.Info // before; nil: it was not there
}

// New returns an empty store. With lock its objects can be retained.
func New(lock bool, o Options) *World {
	return &World{Store: mem.New(time.Now, lock), opt: o}
}

// Settle waits for requests that are still on their way.
func (w *World) Settle() { w.late.Wait() }

// Process is the way of one process to the store.
func (w *World) Process(name string) *Process {
	return &Process{w: w, name: name, seen: map[string]uint64{}}
}

// draw is the randomness of the n-th call of a kind.
func (w *World) draw(process, what string, n uint64) *rand.Rand {
	h := fnv(w.opt.Seed, process)
	h = fnv(h, what)
	return rand.New(rand.NewPCG(h, n))
}

// fnv is the hash FNV-1a of a text, begun with h.
func fnv(h uint64, s string) uint64 {
	h ^= 14695981039346656037
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// put changes the store and remembers what was there.
func (w *World) put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.was(key)
	i, err := w.Store.Put(ctx, key, body, o)
	if err == nil {
		w.note(key, was)
	}
	return i, err
}

func (w *World) remove(ctx context.Context, keys []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := make([]*objstore.Info, len(keys))
	for i, key := range keys {
		before[i] = w.was(key)
	}
	err := w.Store.Delete(ctx, keys)
	for i, key := range keys {
		if before[i] != nil && w.was(key) == nil {
			w.note(key, before[i])
		}
	}
	return err
}

func (w *World) was(key string) *objstore.Info {
	i, err := w.Store.Stat(context.Background(), key)
	if err != nil {
		return nil
	}
	return &i
}

// note remembers a change for as long as listings may lag.
func (w *World) note(key string, was *objstore.Info) {
	if w.opt.Stale == 0 {
		return
	}
	now := time.Now()
	for len(w.recent) > 0 && now.Sub(w.recent[0].at) > w.opt.Lag {
		w.recent = w.recent[1:]
	}
	w.recent = append(w.recent, change{now, key, was})
}

// list is a listing as it was a while ago.
func (w *World) list(ctx context.Context, prefix, after string, limit int, lag time.Duration) ([]objstore.Info, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	past := map[string]*objstore.Info{}
	for i := len(w.recent) - 1; i >= 0 && now.Sub(w.recent[i].at) < lag; i-- {
		past[w.recent[i].key] = w.recent[i].was
	}
	if len(past) == 0 {
		return w.Store.List(ctx, prefix, after, limit)
	}
	return listPast(ctx, w.Store, past, prefix, after, limit)
}

func describe(op, key string) string { return fmt.Sprintf("%s %s", op, key) }
