package backupserver

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// writer is an index that the client writes.
type writer struct {
	wid  int
	name names.Archive

	mu    sync.Mutex
	index index
	count uint64 // of appended entries
	small int    // uploads of less than a fixed chunk
	over  bool   // closed, or closing failed
}

// index is what the two kinds have in common. Its methods are called one at a
// time.
type index interface {
	// add appends a chunk of n bytes that begins at offset.
	add(d digest.Digest, n int64, offset uint64) error
	// fits compares what the client says at the end with what it did.
	fits(c backupv1.Close, count uint64) error
	// close completes the index.
	close() (file, error)
}

// open makes a writer of an index that create makes, one at a time: two of the
// same name must not meet.
func (b *Session) open(name names.Archive, create func() (index, error)) (any, error) {
	var wid int
	err := b.change(func() error {
		b.creating.Lock()
		defer b.creating.Unlock()
		if b.lastWid == backupv1.MaxWriters {
			return fmt.Errorf("more than %d indexes in one backup", backupv1.MaxWriters)
		}
		x, err := create()
		if err != nil {
			return err
		}
		b.lastWid++
		wid = b.lastWid
		b.mu.Lock()
		defer b.mu.Unlock()
		b.writers[wid] = &writer{wid: wid, name: name, index: x}
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.log("created new %s index %d (%q)", name.Kind(), wid, name)
	return wid, nil
}

// writer finds an open one.
func (b *Session) writer(wid int, kind names.Kind) (*writer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, ok := b.writers[wid]
	if !ok || w.name.Kind() != kind {
		return nil, wrongWriter(wid)
	}
	return w, nil
}

// admit allows an upload of that many plain bytes.
func (w *writer) admit(size int) error {
	if w.name.Kind() != names.Fidx || size == backupv1.ChunkSize {
		return nil
	}
	if size > backupv1.ChunkSize {
		return fmt.Errorf("fixed writer '%s' - got large chunk (%d > %d)", w.name, size, backupv1.ChunkSize)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.small > 0 {
		return fmt.Errorf("fixed writer '%s' - detected multiple end chunks (chunk size too small)", w.name)
	}
	w.small++
	return nil
}

// dismiss takes back what admit allowed.
func (w *writer) dismiss(size int) {
	if w.name.Kind() == names.Fidx && size < backupv1.ChunkSize {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.small--
	}
}

// append adds known chunks to an index.
func (b *Session) append(r *http.Request, kind names.Kind) (any, error) {
	p, err := rest.Read(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseAppend(p)
	if err != nil {
		return nil, err
	}
	w, err := b.writer(call.Wid, kind)
	if err != nil {
		return nil, err
	}
	return nil, b.change(func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.over {
			return wrongWriter(w.wid)
		}
		for i, d := range call.Digests {
			n, err := b.known.length(d)
			if err == nil {
				err = w.index.add(d, n, call.Offsets[i])
			}
			if err != nil {
				return fmt.Errorf("index '%s': %w", w.name, err)
			}
			w.count++
		}
		return nil
	})
}

// close completes an index. When the client has another idea of it than we
// have, it stays open, so that the backup cannot be finished.
func (b *Session) close(r *http.Request, kind names.Kind) (any, error) {
	p, err := rest.Read(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseClose(p)
	if err != nil {
		return nil, err
	}
	w, err := b.writer(call.Wid, kind)
	if err != nil {
		return nil, err
	}
	err = b.change(func() error { return b.closeWriter(w, call) })
	if err == nil {
		b.log("successfully closed %s index %d (%q, %d chunks, %d bytes)", kind, w.wid, w.name, call.Count, call.Size)
	}
	return nil, err
}

func (b *Session) closeWriter(w *writer, call backupv1.Close) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return wrongWriter(w.wid)
	}
	if call.Count != w.count {
		return fmt.Errorf("index '%s' close failed - unexpected chunk count (%d != %d)", w.name, w.count, call.Count)
	}
	if err := w.index.fits(call, w.count); err != nil {
		return fmt.Errorf("index '%s' close failed - %w", w.name, err)
	}
	w.over = true
	f, err := w.index.close()
	if err == nil && f.sum != call.Csum {
		err = fmt.Errorf("got unexpected checksum (%s != %s)", call.Csum, f.sum)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("index '%s' close failed - %w", w.name, err)
		b.spoilt = err
		return err
	}
	delete(b.writers, w.wid)
	b.files[w.name] = f
	return nil
}
