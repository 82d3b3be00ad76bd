package backupclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
)

// uploads are the chunks on their way.
type uploads struct {
	s      *Session
	budget int64
	pool   *pagebuf.Pool
	wg     sync.WaitGroup

	mu       sync.Mutex
	moved    *sync.Cond // an upload ended, or the session failed
	held     int64      // bytes of inflight
	inflight map[digest.Digest]*upload
	sent     map[digest.Digest]struct{} // the first maxSent that arrived
	count    manifest.UploadStats
	stop     func() bool
}

// maxSent bounds the memory of what was sent to about 4 MiB. What is not
// remembered is sent again when it comes again.
const maxSent = 1 << 16

// maxInFlight is how many uploads there are at a time, however small: servers
// answer so many streams.
const maxInFlight = 64

// upload is one chunk. err is valid when done is closed.
type upload struct {
	done chan struct{}
	err  error
}

func newUploads(s *Session, budget int64) *uploads {
	u := &uploads{s: s, budget: budget, pool: pagebuf.NewPool(budget), inflight: map[digest.Digest]*upload{}, sent: map[digest.Digest]struct{}{}}
	u.moved = sync.NewCond(&u.mu)
	u.stop = context.AfterFunc(s.ctx, u.wake)
	return u
}

func (u *uploads) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.moved.Broadcast()
}

// has reports whether a chunk was sent or is on its way.
func (u *uploads) has(d digest.Digest) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.sent[d]
	if !ok {
		_, ok = u.inflight[d]
	}
	return ok
}

// pending returns the upload of a chunk that is on its way, or nil.
func (u *uploads) pending(d digest.Digest) *upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.inflight[d]
}

// put begins to send a chunk when there is room. sent is false when another
// call was faster.
func (u *uploads) put(ctx context.Context, d digest.Digest, plain int, raw []byte) (sent bool, err error) {
	stop := context.AfterFunc(ctx, u.wake)
	defer stop()
	n := int64(len(raw))
	u.mu.Lock()
	for {
		if err := u.s.state(ctx); err != nil {
			u.mu.Unlock()
			return false, err
		}
		if u.inflight[d] != nil {
			u.mu.Unlock()
			return false, nil
		}
		if len(u.inflight) == 0 || u.held+n <= u.budget && len(u.inflight) < maxInFlight {
			break
		}
		u.moved.Wait()
	}
	w, err := u.s.through(plain)
	if err != nil {
		u.mu.Unlock()
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	up := &upload{done: make(chan struct{})}
	u.inflight[d] = up
	u.held += n
	u.mu.Unlock()
	buf, err := u.pool.Get(len(raw))
	if err != nil {
		w.uploads.Done()
		u.end(d, up, n, nil, err)
		return false, err
	}
	data := buf.Bytes()[:len(raw)]
	copy(data, raw)
	u.wg.Go(func() {
		call := backupv1.Upload{Wid: w.wid, Digest: d, Size: plain, Encoded: len(data)}
		err := u.s.wire.upload(u.s.ctx, w.name.Kind(), call, data)
		w.uploads.Done()
		if err != nil {
			err = fmt.Errorf("store chunk %s: %w", d, err)
			u.s.fail(err)
		} else {
			u.mu.Lock()
			u.count.Count++
			u.count.Size += uint64(plain)
			u.count.CompressedSize += uint64(len(data))
			u.mu.Unlock()
		}
		u.end(d, up, n, buf, err)
	})
	return true, nil
}

// end takes an upload off the list.
func (u *uploads) end(d digest.Digest, up *upload, n int64, buf *pagebuf.Buffer, err error) {
	u.pool.Put(buf)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.inflight, d)
	u.held -= n
	if err == nil && len(u.sent) < maxSent {
		u.sent[d] = struct{}{}
	}
	up.err = err
	close(up.done)
	u.moved.Broadcast()
}

func (u *uploads) stats() manifest.UploadStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count
}

// close waits for what is on its way, after the session has failed or has been
// finished, and frees the buffers.
func (u *uploads) close() {
	u.stop()
	u.wg.Wait()
	u.pool.Close()
}

// through picks the open index through which a chunk is sent, and notes the
// upload there. Any will do, for what was sent is known to all; a dynamic one
// takes chunks of every size, a fixed one a short chunk only once.
func (b *Session) through(plain int) (*writer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var best *writer
	for _, w := range b.writers {
		if !w.closing && (best == nil || w.name.Kind() == names.Didx || best.name.Kind() == names.Fidx) {
			best = w
		}
	}
	switch {
	case best == nil:
		return nil, errors.New("no index is being written")
	case best.name.Kind() == names.Fidx && plain > backupv1.ChunkSize:
		return nil, fmt.Errorf("%d bytes of data, a server takes at most %d in a disk image", plain, backupv1.ChunkSize)
	}
	best.uploads.Add(1)
	return best, nil
}
