package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Level is how much a line of a log matters, in the words of Proxmox VE.
type Level string

// The levels.
const (
	Info Level = "info"
	Warn Level = "warn"
	Err  Level = "err"
)

// Log takes a line of the log that people see.
type Log func(level Level, text string)

func (l Log) printf(level Level, format string, args ...any) {
	if l != nil {
		l(level, fmt.Sprintf(format, args...))
	}
}

// Errors that callers tell apart besides those of a [Storage].
var (
	// ErrUsage is wrapped when a call makes no sense as it is.
	ErrUsage = errors.New("wrong call")
	// ErrBase is wrapped when a bitmap does not count from the newest archive.
	ErrBase = errors.New("the dirty bitmap does not count from the newest backup")
	// ErrAborted is the cause of the end of calls that a cleanup or the end of the
	// service aborted.
	ErrAborted = errors.New("the backup was aborted")
)

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}

// Mechanism says how data is handed over, in the words of the platform.
type Mechanism string

// The mechanisms.
const (
	NBD         Mechanism = "nbd"
	FileHandle  Mechanism = "file-handle"
	BlockDevice Mechanism = "block-device"
	Directory   Mechanism = "directory"
	QemuImg     Mechanism = "qemu-img"
	Tar         Mechanism = "tar"
)

// Options say how a service works.
type Options struct {
	// VMs is the mechanism for machines: NBD, FileHandle or BlockDevice; "" is NBD.
	VMs Mechanism
	// Full never asks for an incremental backup, nor for bitmaps.
	Full bool
	// Notes says which archives bitmaps count from; nil: there are no incremental
	// backups.
	Notes *Notebook
	// PIDFile returns the file with the process number of a machine.
	PIDFile func(vmid int) string
	// Scratch is a private directory for what restoring shows as files.
	Scratch string
	// Walkers is where the halves that walk containers report; nil: none can.
	Walkers *Walkers
}

// Service answers the calls. It is safe for concurrent use.
type Service struct {
	store Storage
	opts  Options

	mu       sync.Mutex
	guests   map[int]*task
	restores map[string]*restoring
	closed   bool
}

// task is what a service knows of the backup of one guest.
type task struct {
	archive Archive
	done    bool // it is complete
	over    bool // it was aborted, or there is a newer task: no call may begin
	result  Result
	abort   context.CancelCauseFunc // of the call that runs; nil: none does
	ended   chan struct{}           // closed when it has ended
	walk    *ContainerInfo          // of backup_container_prepare
}

// New returns a service over a storage, which it does not close.
func New(s Storage, o Options) *Service {
	if o.VMs == "" {
		o.VMs = NBD
	}
	return &Service{store: s, opts: o, guests: map[int]*task{}, restores: map[string]*restoring{}}
}

// Close aborts what runs, waits for it, and releases what is open.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	var tasks []*task
	for _, t := range s.guests {
		tasks = append(tasks, t)
	}
	s.mu.Unlock()
	for _, t := range tasks {
		s.end(t)
	}
	return s.releaseAll(ctx)
}

// JobInit begins a job: the storage can be used.
func (s *Service) JobInit(ctx context.Context, log Log) error {
	if err := s.store.Prepare(ctx); err != nil {
		return err
	}
	log.printf(Info, "backing up to %s", s.store.Name())
	return nil
}

// JobCleanup ends a job; it may be repeated.
func (s *Service) JobCleanup() {
	s.mu.Lock()
	tasks := s.guests
	s.guests = map[int]*task{}
	s.mu.Unlock()
	for _, t := range tasks {
		s.end(t)
	}
}

// BackupInit names the archive of a guest. What an earlier task of this guest
// still does is aborted.
func (s *Service) BackupInit(g Guest, start time.Time) (Archive, error) {
	if err := g.check(); err != nil {
		return Archive{}, err
	}
	a := s.store.Archive(g, start)
	s.mu.Lock()
	old := s.guests[g.ID]
	s.guests[g.ID] = &task{archive: a}
	s.mu.Unlock()
	s.end(old)
	return a, nil
}

// resume makes a task for calls that come with the archive's name, from a
// process that was not there for BackupInit.
func (s *Service) resume(g Guest, name string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.guests[g.ID]; t != nil && (name == "" || t.archive.Name == name) {
		if g.Kind != "" && t.archive.Guest.Kind != g.Kind {
			return nil, usagef("%d was announced as %s, not %s", g.ID, t.archive.Guest.Kind, g.Kind)
		}
		return t, nil
	}
	if name == "" {
		return nil, usagef("backup_init for %d is missing", g.ID)
	}
	a, err := s.store.Parse(name)
	if err != nil {
		return nil, err
	}
	if a.Guest.ID != g.ID || g.Kind != "" && a.Guest.Kind != g.Kind {
		return nil, usagef("%s is no archive of %s %d", name, g.Kind, g.ID)
	}
	t := &task{archive: a}
	s.guests[g.ID] = t
	return t, nil
}

// run does the work of a task, one at a time, so that end can abort it.
func (s *Service) run(ctx context.Context, t *task, work func(context.Context) (Result, error)) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	ended := make(chan struct{})
	s.mu.Lock()
	busy, closed, done := t.abort != nil, s.closed || t.over, t.done
	if !busy && !closed && !done {
		t.abort, t.ended = abort, ended
	}
	s.mu.Unlock()
	switch {
	case closed:
		return ErrAborted
	case busy:
		return usagef("%d is being backed up already", t.archive.Guest.ID)
	case done:
		return usagef("%s is complete already", t.archive.Name)
	}
	defer close(ended)
	result, err := work(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.abort = nil
	if err == nil {
		t.done, t.result = true, result
	}
	return err
}

// end aborts the work of a task and waits until it has ended. None begins anew.
func (s *Service) end(t *task) {
	if t == nil {
		return
	}
	s.mu.Lock()
	t.over = true
	abort, ended := t.abort, t.ended
	s.mu.Unlock()
	if abort != nil {
		abort(ErrAborted)
		<-ended
	}
}

// BackupCleanup ends the backup of a guest. With success it returns what became
// of it; without, it aborts what still runs, and says what stays.
func (s *Service) BackupCleanup(ctx context.Context, log Log, g Guest, name string, success bool, reason string) (Result, error) {
	t, err := s.resume(g, name)
	if success {
		if err != nil {
			return Result{}, err
		}
		return s.outcome(ctx, t)
	}
	if err != nil { // there was no backup_init: nothing was begun
		return Result{}, nil
	}
	s.end(t)
	s.mu.Lock()
	done := t.done
	s.mu.Unlock()
	if done {
		log.printf(Warn, "%s is complete and stays, although the task failed afterwards", t.archive.Name)
	} else if reason != "" {
		log.printf(Info, "nothing is kept of %s", t.archive.Name)
	}
	return Result{}, nil
}

func (s *Service) outcome(ctx context.Context, t *task) (Result, error) {
	s.mu.Lock()
	done, result := t.done, t.result
	s.mu.Unlock()
	if done {
		return result, nil
	}
	e, err := s.store.Entry(ctx, t.archive) // made by another process
	if err != nil {
		return Result{}, fmt.Errorf("the backup %s is not complete: %w", t.archive.Name, err)
	}
	return Result{Size: e.Size}, nil
}

// maxLog is how much of a task's log is kept, in bytes; the end counts.
const maxLog = 4 << 20

// BackupLog keeps the log file of a task. It never fails: what goes wrong is said
// in the log.
func (s *Service) BackupLog(ctx context.Context, log Log, g Guest, name, file string) {
	t, err := s.resume(g, name)
	if err != nil {
		return // the task failed before there was a backup
	}
	text, err := readEnd(file, maxLog)
	if err == nil {
		err = s.store.PutLog(ctx, t.archive, text)
	}
	if err != nil {
		log.printf(Warn, "the log of the task is not kept: %v", err)
	}
}

// readEnd reads the last bytes of a file.
func readEnd(path string, limit int64) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	off := max(0, info.Size()-limit)
	b := make([]byte, info.Size()-off)
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

func (g Guest) check() error {
	if g.Kind != QEMU && g.Kind != LXC {
		return usagef("%q is no kind of guest: want qemu or lxc", g.Kind)
	}
	if g.ID < 1 || g.ID > maxID {
		return usagef("%d is no number of a guest", g.ID)
	}
	return nil
}

// maxID is the highest number of a guest.
const maxID = 999_999_999
