// Package backupclient is the client's end of the backup protocol
// (internal/proto/backupv1): a session of a repository that is on a server.
//
// # Pipeline
//
// Put hands a chunk over and returns while it is on its way, so that as many
// are in flight as the budget allows, whatever the number of workers and the time
// that an answer takes. An entry of an index waits for the upload of its chunk,
// and goes to the server with many others in one call. What fails on the way is
// returned by the next call of the session, whichever it is, and by all after
// it; so Finish succeeds only if everything did.
//
// # What is known
//
// Chunks that the previous snapshot's indexes name, once they were opened, and
// chunks that were sent. The server has no call that asks for a chunk, so Has
// knows nothing else, and a chunk that only another group has is sent again.
//
// # Memory
//
// [Options.InFlight] bytes of encoded chunks, 512 entries at a time for each index that
// is written, 64 Ki digests of chunks that were sent, 5 to 10 bytes for each
// chunk of an index of the previous snapshot that was opened. The tables of
// indexes themselves lie in temporary files.
package backupclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Options configure a session; what is 0 gets its default.
type Options struct {
	InFlight int64 // bytes of chunks on their way: 64 MiB
	// Reader opens a snapshot for reading: chunks of the previous one do not come
	// over this connection.
	Reader func(ctx context.Context, s names.Snapshot) (repo.Snapshot, error)
}

// Session is a backup being written. It implements repo.Session.
type Session struct {
	wire wire
	name names.Snapshot
	ctx  context.Context // of everything that goes over the wire
	fail context.CancelCauseFunc
	up   *uploads
	prev *previous // nil: none

	mu      sync.Mutex
	writers []*writer // open ones, in order
	all     []*writer
	spoilt  bool // an index came to nothing
	files   int
	ended   bool
}

// Begin speaks with a server that has agreed to write snapshot s on conn, which
// the session owns from then on. It ends with ctx.
func Begin(ctx context.Context, conn *upgrade.Client, s names.Snapshot, o Options) (*Session, error) {
	if o.InFlight <= 0 {
		o.InFlight = 64 << 20
	}
	b := &Session{wire: wire{conn}, name: s}
	b.ctx, b.fail = context.WithCancelCause(ctx)
	b.up = newUploads(b, o.InFlight)
	var err error
	if b.prev, err = b.openPrevious(o.Reader); err != nil {
		return nil, errors.Join(fmt.Errorf("start backup %s: %w", s, err), b.Abort())
	}
	return b, nil
}

var _ repo.Session = (*Session)(nil)

// Snapshot names the snapshot being written.
func (b *Session) Snapshot() names.Snapshot { return b.name }

// Previous is the base; nil when there is none.
func (b *Session) Previous() repo.Snapshot {
	if b.prev == nil {
		return nil
	}
	return b.prev
}

// Has reports whether the chunk was sent, or is named by an index of the base
// that was opened. Any other is unknown.
func (b *Session) Has(ctx context.Context, d digest.Digest) (bool, error) {
	if err := b.state(ctx); err != nil {
		return false, err
	}
	if b.up.has(d) {
		return true, nil
	}
	if b.prev == nil {
		return false, nil
	}
	return b.prev.known.Has(d)
}

// Put sends an encoded chunk of plain bytes, unless it is known. It returns when
// raw may be used again, not when the chunk is stored.
func (b *Session) Put(ctx context.Context, d digest.Digest, plain int, raw []byte) (bool, error) {
	known, err := b.Has(ctx, d)
	if err != nil || known {
		return false, err
	}
	return b.up.put(ctx, d, plain, raw)
}

// PutBlob stores an encoded blob under its name.
func (b *Session) PutBlob(ctx context.Context, name names.Archive, raw []byte) error {
	if name.Kind() != names.Blob || name == names.Manifest {
		return fmt.Errorf("store %s: want a name that ends in .blob, other than %s", name, names.Manifest)
	}
	if err := b.state(ctx); err != nil {
		return err
	}
	if err := b.wire.blob(ctx, name, raw); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files++
	return nil
}

// Finish makes the snapshot visible and returns when the server says that it is
// safe.
func (b *Session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := b.finish(ctx, m); err != nil {
		return fmt.Errorf("finish backup %s: %w", b.name, err)
	}
	return nil
}

func (b *Session) finish(ctx context.Context, m *manifest.Manifest) error {
	b.mu.Lock()
	open, spoilt, files, ended := len(b.writers), b.spoilt, b.files, b.ended
	b.mu.Unlock()
	switch {
	case ended:
		return errEnded
	case open > 0:
		return errors.New("an index is still being written")
	case spoilt:
		return errors.New("one of its indexes could not be written")
	case files == 0 || len(m.Files) == 0:
		return errors.New("it holds no archive")
	}
	if err := b.state(ctx); err != nil { // of uploads too: closing an index has waited for them
		return err
	}
	m.SetUploadStats(b.up.stats())
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	enc, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		return err
	}
	defer enc.Close()
	raw, err := enc.Append(nil, text)
	if err != nil {
		return err
	}
	if len(raw) > backupv1.MaxEncoded {
		return fmt.Errorf("the manifest has %d bytes, more than a server takes", len(raw))
	}
	if err := b.wire.blob(ctx, names.Manifest, raw); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := b.wire.finish(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	_ = b.release() // the snapshot is there for good
	return nil
}

var errEnded = errors.New("the session has ended")

// Abort ends the connection; the server then removes what it has of the
// snapshot. It does nothing after Finish.
func (b *Session) Abort() error {
	b.mu.Lock()
	ended := b.ended
	b.ended = true
	b.mu.Unlock()
	if ended {
		return nil
	}
	return b.release()
}

// release ends everything that runs for the session, and waits for it.
func (b *Session) release() error {
	b.fail(errEnded)
	err := b.wire.conn.Close()
	b.mu.Lock()
	all := b.all
	b.writers, b.all = nil, nil
	b.mu.Unlock()
	b.up.close()
	for _, w := range all {
		err = errors.Join(err, w.release())
	}
	if b.prev != nil {
		err = errors.Join(err, b.prev.release())
	}
	return err
}

// state returns why nothing can go on: the caller's context first, then what
// failed before.
func (b *Session) state(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	return nil
}
