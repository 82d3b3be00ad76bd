// Package repotest is a repository in memory for the tests of pipelines.
//
// It is strict where a real one is lenient: a slot set twice, a slot left out,
// an index that names a chunk which is not there, a manifest that does not list
// what was written are errors. Faults are injected by operation name
// ([Memory.Fail]), and its chunks lie open to be damaged.
package repotest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// The operations that Fail hears of.
const (
	OpBegin    = "begin"
	OpHas      = "has"
	OpPut      = "put"
	OpPutBlob  = "put blob"
	OpCreate   = "create index"
	OpSet      = "set slot"
	OpAdd      = "add entry"
	OpGrow     = "grow index"
	OpClose    = "close index"
	OpFinish   = "finish"
	OpAbort    = "abort"
	OpOpen     = "open index"
	OpReadBlob = "read blob"
	OpRead     = "read chunk"
	OpPutLog   = "put log"
)

// Memory is a repository in memory. Its methods are safe for concurrent use;
// its fields are set before.
type Memory struct {
	// Fail, when set, is asked before every operation and may fail it.
	Fail func(op string) error
	// Runs gives indexes the ability to set many slots at once.
	Runs bool

	mu    sync.Mutex
	calls map[string]int
	// Chunks are encoded, by name. A test that changes them does so while
	// nothing runs.
	Chunks map[digest.Digest][]byte
	snaps  []*stored
	open   int
}

// stored is a finished snapshot.
type stored struct {
	name  names.Snapshot
	m     *manifest.Manifest
	files map[names.Archive][]byte
	log   []byte // nil: none
}

// New returns an empty repository.
func New() *Memory {
	return &Memory{Chunks: map[digest.Digest][]byte{}, calls: map[string]int{}}
}

// callCtx is call for operations that can be cancelled.
func (m *Memory) callCtx(ctx context.Context, op string) error {
	if err := m.call(op); err != nil {
		return err
	}
	return ctx.Err()
}

// call counts an operation and injects a fault.
func (m *Memory) call(op string) error {
	m.mu.Lock()
	m.calls[op]++
	m.mu.Unlock()
	if m.Fail != nil {
		return m.Fail(op)
	}
	return nil
}

// Calls returns how often an operation was asked for since the last Reset.
func (m *Memory) Calls(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

// Reset forgets the calls.
func (m *Memory) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.calls)
}

// Snapshots returns how many are visible.
func (m *Memory) Snapshots() int { return len(m.snaps) }

// InUse returns how many sessions and indexes are open.
func (m *Memory) InUse() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *Memory) use(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open += n
}

// Begin starts a backup.
func (m *Memory) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	if err := m.callCtx(ctx, OpBegin); err != nil {
		return nil, err
	}
	s := &session{m: m, name: b.Snapshot, files: map[names.Archive][]byte{}}
	for _, old := range m.snaps {
		if old.name.NS == b.Snapshot.NS && old.name.Group == b.Snapshot.Group {
			s.prev = &Snapshot{m, old}
		}
	}
	m.use(1)
	return s, nil
}

// Open opens a finished snapshot.
func (m *Memory) Open(_ context.Context, name names.Snapshot) (*Snapshot, error) {
	for _, s := range m.snaps {
		if s.name == name {
			return &Snapshot{m, s}, nil
		}
	}
	return nil, fmt.Errorf("snapshot %s: %w", name, repo.ErrNotFound)
}

// PutLog stores the log of a finished snapshot.
func (m *Memory) PutLog(ctx context.Context, name names.Snapshot, raw []byte) error {
	if err := m.callCtx(ctx, OpPutLog); err != nil {
		return err
	}
	s, err := m.Open(ctx, name)
	if err != nil {
		return err
	}
	if s.s.log != nil {
		return fmt.Errorf("log of %s: %w", name, repo.ErrExists)
	}
	s.s.log = bytes.Clone(raw)
	return nil
}
