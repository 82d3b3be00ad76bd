package mapping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/kernel/process"
)

// endTimeout bounds every clean-up that nobody else bounds.
const endTimeout = 10 * time.Second

// backend is a mode at work.
type backend interface {
	// holders returns who uses the target, besides this process.
	holders() ([]holders.Holder, error)
	counters() Counters
	// done is closed when the mapping ended from outside; err tells how.
	done() <-chan struct{}
	err() error
	// end takes it away and waits. With users, force gives them errors, and
	// what they still hold goes when they let go.
	end(ctx context.Context, force bool) error
}

// Mapping is an image that is mapped by this process.
type Mapping struct {
	dir  string
	spec Spec
	rec  Record
	lock *os.File
	back backend
	ctl  *control

	mu      sync.Mutex
	ended   bool          // back is gone
	gone    bool          // and the files, too
	stopped chan struct{} // closed when ended
}

// Map maps an image. When it returns, the device can be read; the caller then
// calls Serve, and Close in the end. A name that is mapped already is a
// *MappedError.
func Map(ctx context.Context, s Spec) (*Mapping, error) {
	if s.Name == "" {
		s.Name = Name(s.Repository, s.Snapshot, s.Archive)
	}
	m, err := mapIt(ctx, s)
	if err == nil {
		return m, nil
	}
	if _, taken := errors.AsType[*MappedError](err); taken {
		return nil, err
	}
	return nil, fmt.Errorf("map %s: %w", s.Name, err)
}

func mapIt(ctx context.Context, s Spec) (_ *Mapping, err error) {
	s, err = complete(s)
	if err != nil {
		return nil, err
	}
	m := &Mapping{dir: s.RunDir, spec: s, stopped: make(chan struct{})}
	if m.lock, err = m.acquire(ctx); err != nil {
		return nil, err
	}
	start, _ := process.Start(os.Getpid())
	m.rec = Record{
		ID: newID(), Name: s.Name, Repository: s.Repository, Namespace: s.Namespace, Snapshot: s.Snapshot, Archive: s.Archive,
		Mode: s.Mode, Size: s.Image.Size(), ReadOnly: s.ReadOnly, PID: os.Getpid(), StartTime: start, Created: time.Now().UTC().Truncate(time.Second),
		key: fileKey(s.Name, s.Namespace),
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			defer cancel()
			err = errors.Join(err, m.Close(clean))
		}
	}()
	if err := m.note("reserved"); err != nil {
		return nil, err
	}
	if m.ctl, err = serveControl(m); err != nil {
		return nil, err
	}
	m.spec.stage("control")
	if m.back, err = m.attach(ctx); err != nil {
		return nil, err
	}
	m.rec.Ready = true
	if err := m.note("ready"); err != nil {
		return nil, err
	}
	s.Log.Info("mapped", "name", s.Name, "target", m.rec.Target(), "id", m.rec.ID)
	return m, nil
}

// complete checks a specification and fills in what is empty.
func complete(s Spec) (Spec, error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.stage == nil {
		s.stage = func(string) {}
	}
	if s.DeadTimeout <= 0 {
		s.DeadTimeout = DefaultDeadTimeout
	}
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	if _, ok := s.Image.(image.Device); !ok {
		s.ReadOnly = true
	}
	if s.Mode == Loop || s.Mode == NBD {
		if s.Image.Size() < 512 {
			return s, fmt.Errorf("an image of %d bytes has no whole sector of 512", s.Image.Size())
		}
	}
	if _, err := ParseMode(string(s.Mode)); err != nil {
		return s, err
	}
	if s.RunDir == "" {
		dir, err := RunDir()
		if err != nil {
			return s, err
		}
		s.RunDir = dir
	}
	abs, err := filepath.Abs(s.RunDir)
	if err != nil {
		return s, err
	}
	s.RunDir = abs
	return s, checkDir(s.RunDir)
}

// acquire takes the name's lock and cleans up what its last holder left.
func (m *Mapping) acquire(ctx context.Context) (*os.File, error) {
	key := fileKey(m.spec.Name, m.spec.Namespace)
	var lock *os.File
	for end := time.Now().Add(time.Second); ; {
		var err error
		if lock, err = lockKey(m.dir, key); err == nil {
			break
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		r, _ := readRecord(m.dir, key)
		if r.Ready && r.alive() || time.Now().After(end) {
			return nil, &MappedError{m.spec.Name, r}
		}
		select { // a list or a cleanup has it for a moment, or another map begins
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	old, err := readRecord(m.dir, key)
	if errors.Is(err, os.ErrNotExist) {
		return lock, nil
	}
	if err != nil {
		m.spec.Log.Warn("an unreadable record is dropped", "error", err)
		return lock, nil
	}
	m.spec.Log.Info("cleaning up after a dead process", "name", old.Name, "process", old.PID)
	clean, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	err = release(clean, old, false)
	if err == nil {
		err = removeFiles(m.dir, old)
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("clean up after process %d, which died: %w", old.PID, err)
	}
	return lock, nil
}

// note writes the record at the end of a step.
func (m *Mapping) note(stage string) error {
	if err := writeRecord(m.dir, m.rec); err != nil {
		return err
	}
	m.spec.stage(stage)
	return nil
}

// Record is the mapping's state.
func (m *Mapping) Record() Record { return m.rec }

// Counters counts what was read and written.
func (m *Mapping) Counters() Counters {
	if m.spec.Stats != nil {
		return m.spec.Stats()
	}
	if m.back == nil {
		return Counters{}
	}
	return m.back.counters()
}

// Serve waits for the mapping's end: nil when it was unmapped, the context's
// cause, or why its connection died. The mapping is still to be closed.
func (m *Mapping) Serve(ctx context.Context) error {
	select {
	case <-m.stopped:
		return nil
	case <-m.back.done():
		select {
		case <-m.stopped: // unmapping is what ended it
			return nil
		default:
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ended {
			return nil
		}
		return m.back.err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop takes the device away. One that is in use stays as it is, with a
// *BusyError, unless force is set: then its users get errors.
func (m *Mapping) Stop(ctx context.Context, force bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil
	}
	if !force {
		if err := m.idle(ctx); err != nil {
			return err
		}
	}
	if m.back != nil {
		if err := m.back.end(ctx, force); err != nil {
			return err
		}
	}
	m.ended = true
	close(m.stopped)
	m.spec.Log.Info("unmapped", "name", m.rec.Name, "target", m.rec.Target(), "id", m.rec.ID)
	return nil
}

// probeTime is how long a user may go on before it counts: programs of udev
// look at every new device for a moment.
const probeTime = time.Second

func (m *Mapping) idle(ctx context.Context) error {
	if m.back == nil {
		return nil
	}
	return waitIdle(ctx, m.rec, m.back.holders)
}

// waitIdle waits for users that are about to go; the others are a *BusyError.
func waitIdle(ctx context.Context, r Record, users func() ([]holders.Holder, error)) error {
	for end := time.Now().Add(probeTime); ; {
		hs, err := users()
		if err != nil {
			return err
		}
		if len(hs) == 0 {
			return nil
		}
		if time.Now().After(end) || lasting(hs) {
			return &BusyError{r, hs}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return &BusyError{r, hs}
		}
	}
}

func lasting(hs []holders.Holder) bool {
	for _, h := range hs {
		if h.Kind != "process" && h.Kind != "" {
			return true
		}
	}
	return false
}

// Close ends the mapping whoever uses it, and removes its files. It may be
// called again after an error.
func (m *Mapping) Close(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, endTimeout)
		defer cancel()
	}
	if err := m.Stop(ctx, true); err != nil {
		return fmt.Errorf("unmap %s: %w", m.rec.Name, err)
	}
	if m.ctl != nil {
		m.ctl.close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return nil
	}
	m.gone = true
	err := errors.Join(removeFiles(m.dir, m.rec), unlock(m.dir, m.rec.key, m.lock))
	if err != nil {
		return fmt.Errorf("unmap %s: %w", m.rec.Name, err)
	}
	return nil
}
