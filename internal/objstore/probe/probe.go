// Package probe finds out what an object store is fit for: which of the
// promises of package objstore it keeps, seen from here and now.
//
// It writes small objects below a key of its own and removes them. A promise
// that was kept is no proof, one that was broken is: races are run several times
// with as many writers as a busy repository has.
package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Report is what was found.
type Report struct {
	Checks []Check
	// Latency is the median time of a small Put and of a small Get.
	PutLatency, GetLatency time.Duration
	// PutRate and GetRate are bytes a second of one large object.
	PutRate, GetRate float64
}

// Check is one question and its answer.
type Check struct {
	Name   string // as "conditional-put"
	Title  string // for people
	Needed Need
	OK     bool
	Err    error // why not
}

// LockCheck is the name of the check that Options.Lock asks for.
const LockCheck = "object-lock"

// Need says what a check that failed costs.
type Need int

// The needs, the hardest first.
const (
	Always  Need = iota // no repository without it
	Several             // without it one writer at a time only
	Extra               // a feature goes without
)

func (n Need) String() string {
	switch n {
	case Always:
		return "always"
	case Several:
		return "several writers"
	case Extra:
		return "extra"
	}
	return fmt.Sprintf("probe.Need(%d)", int(n))
}

// Fit reports whether all that is needed to that degree is there.
func (r Report) Fit(n Need) bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Needed <= n && !c.OK })
}

// Options change what is tried.
type Options struct {
	// Lock also tries object lock. The object that it locks cannot be removed for
	// a minute and stays.
	Lock bool
	// Large is the size of the object whose rate is measured, in bytes; 0: 16 MiB.
	Large int
	// Now is the clock for rates.
	Now func() time.Time
}

// prober runs checks below a prefix of its own.
type prober struct {
	s      objstore.Store
	prefix string
	opt    Options
	report Report

	mu   sync.Mutex
	made map[string]bool // objects that may be there
}

const (
	racers = 16
	races  = 4
	small  = 1 << 10

	cleanTime = 10 * time.Second // for removing what was written; who interrupts a store that is silent wants to get away
)

// errBroken says that an answer came that breaks a promise.
var errBroken = errors.New("the store does not keep a promise")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBroken, fmt.Sprintf(format, args...))
}

// Run asks all questions. The error is of a store that cannot be asked at all,
// or that does not let what was written be removed, or the cause of ctx; the
// report then holds what was found before.
func Run(ctx context.Context, s objstore.Store, o Options) (r Report, err error) {
	if o.Large == 0 {
		o.Large = 16 << 20
	}
	p := &prober{s: s, prefix: "probe-" + strings.ToLower(rand.Text()) + "/", opt: o, made: map[string]bool{}}
	if _, err := p.put(ctx, "first", []byte("x"), objstore.PutOptions{}); err != nil {
		_ = p.clean(ctx) // what a store that cannot be asked says to this, too, helps nobody
		return r, err
	}
	defer func() {
		err = errors.Join(err, p.clean(ctx))
		r = p.report
	}()
	for _, c := range p.checks() {
		c.Check.Err = c.run(ctx)
		if ctx.Err() != nil {
			return r, context.Cause(ctx) // the check was cut short: it says nothing of the store
		}
		c.Check.OK = c.Check.Err == nil
		p.report.Checks = append(p.report.Checks, c.Check)
	}
	return r, p.measure(ctx)
}

type check struct {
	Check
	run func(context.Context) error
}

func (p *prober) checks() []check {
	list := []check{
		{Check{Name: "read-after-write", Title: "what was written is read at once", Needed: Always}, p.readAfterWrite},
		{Check{Name: "range", Title: "parts of objects are read", Needed: Always}, p.ranges},
		{Check{Name: "list", Title: "listings are complete and in order", Needed: Always}, p.lists},
		{Check{Name: "nested-keys", Title: "a key may go on behind another one, as a and a/b", Needed: Extra}, p.nested},
		{Check{Name: "delete", Title: "many objects are removed by one request", Needed: Always}, p.deletes},
		{Check{Name: "conditional-put", Title: "of several that create one object one succeeds (If-None-Match)", Needed: Several}, p.ifAbsent},
		{Check{Name: "conditional-replace", Title: "of several that replace one object one succeeds (If-Match)", Needed: Extra}, p.ifTag},
	}
	if p.opt.Lock {
		list = append(list, check{Check{Name: LockCheck, Title: "objects are kept from removal", Needed: Extra}, p.locks})
	}
	return list
}

func (p *prober) put(ctx context.Context, key string, body []byte, o objstore.PutOptions) (objstore.Info, error) {
	p.mu.Lock()
	p.made[key] = true
	p.mu.Unlock()
	return p.s.Put(ctx, p.prefix+key, bytes.NewReader(body), o)
}

// clean removes what was made, after an interruption too.
func (p *prober) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	var keys []string
	for key := range p.made {
		keys = append(keys, p.prefix+key)
	}
	var errs []error
	for page := range slices.Chunk(keys, objstore.MaxDelete) {
		errs = append(errs, p.s.Delete(ctx, page))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("what the probe wrote is left below %s: %w", p.prefix, err)
	}
	return nil
}

// text is a body that no other has.
func text() []byte { return []byte(rand.Text()) }
