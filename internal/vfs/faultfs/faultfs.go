// Package faultfs makes chosen calls to a file system fail.
//
// A [Rule] says which calls (by operation and name), which of them (the n-th),
// and how. The loop that fails every step of something once looks so:
//
//	for n := 1; ; n++ {
//		v := faultfs.New(disk.Clone(), &faultfs.Rule{N: n, Err: syscall.EIO})
//		err := work(v)
//		if !v.Fired() {
//			break // err is that of an undisturbed run
//		}
//		// err must be there, and the store must be sound
//	}
//
// An injected error names operation and path as real ones do and says that it
// was injected. All calls are recorded, so that a test can also ask in which
// order they came.
package faultfs

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Op is one kind of call.
type Op string

// The kinds of call. Read is ReadAt; Write is Write and WriteAt; Now, WillNeed
// and StartWriteback cannot fail and are not counted.
const (
	Open      Op = "open"
	Create    Op = "create"
	Mkdir     Op = "mkdir"
	Rename    Op = "rename"
	Remove    Op = "remove"
	ReadDir   Op = "readdir"
	Lstat     Op = "lstat"
	Touch     Op = "touch"
	SyncDir   Op = "syncdir"
	SyncFS    Op = "syncfs"
	LockRange Op = "lockrange"
	Unlock    Op = "unlock"
	Usage     Op = "usage"
	Read      Op = "read"
	Write     Op = "write"
	Size      Op = "size"
	Truncate  Op = "truncate"
	Sync      Op = "sync"
	Close     Op = "close"
)

// Changing are the operations that change something or make it durable.
func Changing() []Op {
	return []Op{Create, Mkdir, Rename, Remove, Touch, SyncDir, SyncFS, Write, Truncate, Sync, Close}
}

// Call is one call.
type Call struct {
	Op      Op
	Name    string
	NewName string // of a rename
	Failed  bool   // by a rule or by itself
}

func (c Call) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Op, c.Name, c.NewName))
}

// Rule describes the calls that fail.
type Rule struct {
	Ops  []Op   // none: all
	Path string // a pattern of path.Match for the name, or without a slash for its last component; empty: all
	N    int    // the first matching call that fails, counted from 1; 0 means 1
	// Times is how many matching calls fail from the N-th on: 0 means one, a
	// negative number all of them.
	Times int
	Err   error // what they fail with
	// Short lets a failing write write half of its bytes.
	Short bool
	// Done lets a failing call do its work and report the error nevertheless, as
	// happens when an answer is lost on a network file system.
	Done bool

	seen int
}

func (r *Rule) covers(c Call) bool {
	if len(r.Ops) > 0 && !slices.Contains(r.Ops, c.Op) {
		return false
	}
	return r.Path == "" || r.match(c.Name) || c.NewName != "" && r.match(c.NewName)
}

func (r *Rule) match(name string) bool {
	if !strings.Contains(r.Path, "/") {
		name = path.Base(name)
	}
	ok, err := path.Match(r.Path, name)
	if err != nil {
		panic(fmt.Sprintf("faultfs: pattern %q: %v", r.Path, err))
	}
	return ok
}

// due counts a matching call and says whether it fails.
func (r *Rule) due() bool {
	r.seen++
	first := max(r.N, 1)
	return r.seen >= first && (r.Times < 0 || r.seen < first+max(r.Times, 1))
}

// FS is a file system whose calls fail by rules.
type FS struct {
	base vfs.FS

	mu    sync.Mutex
	rules []*Rule
	calls []Call
	fired int
}

var _ vfs.FS = (*FS)(nil)

// New decorates a file system. Rules must not be used by two file systems.
func New(base vfs.FS, rules ...*Rule) *FS { return &FS{base: base, rules: rules} }

// Add makes one more rule hold from now on.
func (f *FS) Add(r *Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
}

// Fired reports whether a rule made a call fail.
func (f *FS) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired > 0
}

// Calls lists all calls so far.
func (f *FS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Count is the number of calls so far that a rule with these operations and
// this path would cover.
func (f *FS) Count(pattern string, ops ...Op) int {
	r := Rule{Ops: ops, Path: pattern}
	n := 0
	for _, c := range f.Calls() {
		if r.covers(c) {
			n++
		}
	}
	return n
}

// injected is an error made by a rule.
type injected struct{ err error }

func (e *injected) Error() string { return e.err.Error() + " (injected)" }
func (e *injected) Unwrap() error { return e.err }

// do runs one call under the rules. short is told that half should be done.
func (f *FS) do(c Call, call func(short bool) error) error {
	f.mu.Lock()
	index := len(f.calls)
	f.calls = append(f.calls, c)
	var hit *Rule
	for _, r := range f.rules {
		if r.covers(c) && r.due() && hit == nil {
			hit = r
		}
	}
	if hit != nil {
		f.fired++
	}
	f.mu.Unlock()
	var err error
	if hit == nil {
		err = call(false)
	} else {
		if hit.Done || hit.Short {
			err = call(hit.Short && !hit.Done)
		}
		if err == nil {
			err = &fs.PathError{Op: string(c.Op), Path: c.Name, Err: &injected{hit.Err}}
		}
	}
	if err != nil {
		f.mu.Lock()
		f.calls[index].Failed = true
		f.mu.Unlock()
	}
	return err
}
