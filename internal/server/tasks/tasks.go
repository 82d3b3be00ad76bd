// Package tasks runs the long jobs of a server and keeps their logs, in the files
// and with the names of PBS.
//
// # Files
//
//	active        one line a task that runs: its UPID
//	archive       one line a task that has ended, in the order of the ends:
//	              UPID, end in hex digits (at least 8), state
//	archive.1 ..  the same from before, archive.1 the youngest; PBS has
//	              them compressed, with ".zst" behind the name
//	XX/UPID       the log of a task; XX are the last two hex digits of pstart
//	.active.lock  locked while active and archive are read or changed
//
// A line of a log is the local time in RFC 3339, 25 bytes, ": " and a text. The
// last one says how the task ended:
//
//	TASK OK    TASK WARNINGS: n    TASK ERROR: text
//
// The state in the archive is the same without "TASK " and "ERROR: ", or
// "unknown" for a task whose process died before it could say. Whether a process
// lives is looked up by its number and start: a task of another server on the
// same directory, one that is about to stop, is left alone.
//
// The archive is put aside at 500 KiB; twenty older ones are kept, and logs no
// longer than the oldest of them reaches.
//
// # Source
//
// proxmox-rs: proxmox-rest-server/src/worker_task.rs, proxmox-schema/src/upid.rs.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// ErrUnknown is wrapped when there is no such task.
var ErrUnknown = errors.New("no such task")

// ErrAborted is the cause by which the context of a task ends when somebody stops
// it.
var ErrAborted = errors.New("abort requested - aborting task")

// Options say where tasks are kept and who runs them. All but Dir has a default.
type Options struct {
	Dir      string
	Node     string // name of this machine
	Location *time.Location
	Now      func() time.Time
	Log      *slog.Logger
	Ended    func(upid.UPID, State) // hears of each task of this process that has ended; may be nil
}

// Log is the tasks of a directory. It is safe for concurrent use.
type Log struct {
	opt    Options
	self   process
	lists  sync.Mutex // one at a time at the lists; held with the lock file
	mu     sync.Mutex
	next   uint64
	alive  map[string]*Task // by UPID
	closed bool
	ended  sync.WaitGroup
}

// Open opens the tasks of a directory, which it makes if need be. Tasks whose
// process is gone are marked as ended.
func Open(opt Options) (*Log, error) {
	if opt.Location == nil {
		opt.Location = time.Local
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{opt: opt, self: thisProcess(), alive: map[string]*Task{}}
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("task logs: %w", err)
	}
	if err := l.update(nil); err != nil {
		return nil, fmt.Errorf("task logs: %w", err)
	}
	return l, nil
}

// Job says what a task is.
type Job struct {
	Type   string // "verify", "garbage_collection"
	Worker string // what it works on, "tank:vm/100"; may be empty
	Auth   string // who started it
}

// Start begins a task and runs f in a goroutine of its own. The context of f ends
// when ctx does, and when somebody stops the task, with ErrAborted as its cause.
func (l *Log) Start(ctx context.Context, j Job, f func(context.Context, *Task) error) (*Task, error) {
	t, err := l.Begin(ctx, j)
	if err != nil {
		return nil, err
	}
	go func() {
		err := errors.New("worker panicked")
		defer func() {
			if p := recover(); p != nil { // the sessions of others go on
				l.opt.Log.Error("a task panicked", "upid", t.ID().String(), "panic", p, "stack", string(debug.Stack()))
				err = fmt.Errorf("worker panicked: %v", p)
			}
			t.End(err)
		}()
		err = f(t.ctx, t)
	}()
	return t, nil
}

// Begin begins a task that the caller runs, and ends with End.
func (l *Log) Begin(ctx context.Context, j Job) (*Task, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errors.New("the server is about to stop")
	}
	l.ended.Add(1)
	l.mu.Unlock()
	for {
		t, err := l.begin(ctx, l.newID(j))
		switch {
		case errors.Is(err, fs.ErrExist): // of another Log of this process, of this second
			continue
		case err != nil:
			l.ended.Done()
			return nil, fmt.Errorf("start task %s: %w", j.Type, err)
		}
		return t, nil
	}
}

func (l *Log) begin(ctx context.Context, id upid.UPID) (*Task, error) {
	path := l.path(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	t := &Task{log: l, id: id, file: f, over: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	l.mu.Lock()
	l.alive[id.String()] = t
	l.mu.Unlock()
	if err := l.update(&id); err != nil {
		l.forget(t)
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return t, nil
}

// maxName is how long a file name can be.
const maxName = 255

// newID makes the identifier of a new task, which is a file name too.
func (l *Log) newID(j Job) upid.UPID {
	l.mu.Lock()
	defer l.mu.Unlock()
	for worker := j.Worker; ; worker = worker[:len(worker)*3/4] {
		id := upid.New(l.opt.Node, l.self.pid, l.opt.Now(), j.Type, worker, j.Auth)
		id.PStart, id.TaskID = l.self.start, l.next
		if len(id.String()) <= maxName || worker == "" {
			l.next++
			return id
		}
	}
}

func (l *Log) path(id upid.UPID) string {
	return filepath.Join(l.opt.Dir, fmt.Sprintf("%02X", id.PStart&0xff), id.String())
}

func (l *Log) forget(t *Task) {
	l.mu.Lock()
	delete(l.alive, t.id.String())
	l.mu.Unlock()
}

// Running reports whether a task runs, here or in another process.
func (l *Log) Running(id upid.UPID) bool {
	if id.PID == uint32(l.self.pid) && id.PStart == l.self.start {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.alive[id.String()] != nil
	}
	return running(process{int(id.PID), id.PStart})
}

// Abort asks a task of this process to stop. It does not wait. Nothing happens
// to a task that has ended.
func (l *Log) Abort(id upid.UPID) {
	l.mu.Lock()
	t := l.alive[id.String()]
	l.mu.Unlock()
	if t != nil {
		t.abort(ErrAborted)
	}
}

// Wait returns how a task of this process ended, when it has.
func (l *Log) Wait(id upid.UPID) State {
	l.mu.Lock()
	t := l.alive[id.String()]
	l.mu.Unlock()
	if t != nil {
		<-t.Done()
	}
	return l.end(id)
}

// Close lets no task begin any more and waits until all of this process have
// ended. When ctx ends it aborts those that are left with its cause, and waits for
// them.
func (l *Log) Close(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.ended.Wait()
	}()
	select {
	case <-over:
	case <-ctx.Done():
		l.mu.Lock()
		left := make([]*Task, 0, len(l.alive))
		for _, t := range l.alive {
			left = append(left, t)
		}
		l.mu.Unlock()
		for _, t := range left {
			t.abort(context.Cause(ctx))
		}
		<-over
	}
}
