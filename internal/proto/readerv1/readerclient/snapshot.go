// Package readerclient is the client's end of the reader protocol
// (internal/proto/readerv1): a snapshot that is on a server, open for reading.
//
// Indexes come whole, into temporary files, and are compared with the manifest.
// Chunks come one by one, or ahead of time after Prefetch: up to [MaxAhead] of
// them are on their way or wait, so that what a network takes to answer is not
// waited for again and again.
//
// The server hands out chunks of indexes that were opened and no others.
//
// A chunk that is refused as missing is repo.ErrChunkMissing. The end of the
// connection is an *upgrade.LostError of every call that follows.
package readerclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/ahead"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// MaxAhead is how many chunks are on their way, or wait to be read.
const MaxAhead = 16

const (
	maxWaiting = 128 << 20 // bytes of them

	maxBlob  = blob.MaxPlain + blob.EncryptedHeaderSize // the limits of the format
	maxChunk = blob.MaxChunk + blob.EncryptedHeaderSize
)

// Snapshot is a finished snapshot, open for reading and safe for concurrent use.
// It implements repo.Snapshot.
type Snapshot struct {
	conn  *upgrade.Client
	name  names.Snapshot
	m     *manifest.Manifest
	ctx   context.Context // of what has none of its own
	stop  context.CancelCauseFunc
	ahead *ahead.Fetcher
}

var _ repo.Snapshot = (*Snapshot)(nil)

// Open speaks with a server that has agreed to read snapshot name on conn, which
// the snapshot owns from then on, after an error too. ctx bounds the opening
// alone: a mount is read from while it is being taken down.
func Open(ctx context.Context, conn *upgrade.Client, name names.Snapshot) (*Snapshot, error) {
	p := &Snapshot{conn: conn, name: name}
	p.ctx, p.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	p.ahead = ahead.New(p.ctx, ahead.Limits{Chunks: MaxAhead, Bytes: maxWaiting}, p.chunk)
	opening := context.AfterFunc(ctx, func() { p.stop(context.Cause(ctx)) })
	var raw bytes.Buffer
	err := p.download(names.Manifest, &raw, maxBlob)
	if !opening() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		p.m, err = spool.Manifest(raw.Bytes(), name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot %s: %w", name, err), p.Close())
	}
	return p, nil
}

// Name is that of the snapshot.
func (p *Snapshot) Name() names.Snapshot { return p.name }

// Manifest is that of the snapshot; it is not to be changed.
func (p *Snapshot) Manifest() *manifest.Manifest { return p.m }

// OpenFixed downloads an index and compares it with the manifest.
func (p *Snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	f, listed, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Fixed(f, p.name, listed)
}

// OpenDynamic does the same for a dynamic index.
func (p *Snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	f, listed, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Dynamic(f, p.name, listed)
}

func (p *Snapshot) index(name names.Archive) (*spool.File, manifest.File, error) {
	listed, ok := p.m.File(name.String())
	if !ok {
		return nil, listed, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	f, err := spool.Create()
	if err != nil {
		return nil, listed, err
	}
	err = p.download(name, f, math.MaxInt64-1)
	if errors.Is(err, repo.ErrNotFound) { // the manifest lists it
		err = &repo.CorruptError{What: "archive " + name.String() + " in " + p.name.String(), Err: err}
	}
	if err != nil {
		return nil, listed, errors.Join(fmt.Errorf("archive %s in %s: %w", name, p.name, err), f.Close())
	}
	return f, listed, nil
}

// Blob downloads an encoded blob and compares it with the manifest;
// names.ClientLog, which is not in it, comes as it is.
func (p *Snapshot) Blob(name names.Archive) ([]byte, error) {
	listed, ok := p.m.File(name.String())
	if !ok && name != names.Manifest && name != names.ClientLog {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	var raw bytes.Buffer
	err := p.download(name, &raw, maxBlob)
	if ok && errors.Is(err, repo.ErrNotFound) {
		err = &repo.CorruptError{What: "archive " + name.String() + " in " + p.name.String(), Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, err)
	}
	if !ok {
		return raw.Bytes(), nil
	}
	if err := spool.Blob(raw.Bytes(), p.name, listed); err != nil {
		return nil, err
	}
	return raw.Bytes(), nil
}

// download copies a file of the snapshot, at most most bytes of it.
func (p *Snapshot) download(name names.Archive, to io.Writer, most int64) error {
	resp, err := p.get(p.ctx, "/download", readerv1.DownloadValues(name))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(to, io.LimitReader(resp.Body, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	return err
}

// get makes a call that is not refused.
func (p *Snapshot) get(ctx context.Context, path string, q url.Values) (*http.Response, error) {
	resp, _, err := p.fetch(ctx, path, q, nil)
	return resp, err
}

// fetch does the same, and has the beginning of the answer put where room says.
func (p *Snapshot) fetch(ctx context.Context, path string, q url.Values, room func(*http.Response) []byte) (*http.Response, int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, n, err := p.conn.Fetch(r, room)
	if err != nil {
		return nil, 0, err
	}
	if err := rest.Refused(resp); err != nil {
		_ = resp.Body.Close()
		return nil, 0, repoerr.FromWire(err)
	}
	return resp, n, nil
}

// ReadChunk appends the encoded chunk to buf[:0], not yet checked.
func (p *Snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	return p.ahead.Read(ctx, d, buf)
}

// LendChunk returns the encoded chunk, not yet checked, where it lies. It is the
// caller's until back is called.
func (p *Snapshot) LendChunk(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error) {
	return p.ahead.Lend(ctx, d)
}

// chunk reads a chunk to where place says, which is asked when its size is known.
// Where the server does not say how long it is, all of it is read at once.
func (p *Snapshot) chunk(ctx context.Context, d digest.Digest, place func(size int) ([]byte, error)) ([]byte, error) {
	var raw []byte
	var full error
	resp, n, err := p.fetch(ctx, "/chunk", readerv1.ChunkValues(d), func(resp *http.Response) []byte {
		if size := resp.ContentLength; resp.StatusCode == http.StatusOK && size > 0 && size <= maxChunk {
			raw, full = place(int(size))
		}
		return raw
	})
	if errors.Is(err, repo.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s: %w", repo.ErrChunkMissing, d, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk %s: %w", d, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch size := resp.ContentLength; {
	case full != nil:
		return nil, full
	case size > maxChunk:
		return nil, fmt.Errorf("read chunk %s: the server announces %d bytes", d, size)
	case size > 0:
		return raw[:n], nil
	}
	all, err := io.ReadAll(io.LimitReader(resp.Body, maxChunk+1))
	if err == nil && len(all) > maxChunk {
		err = fmt.Errorf("it is longer than %d bytes", maxChunk)
	}
	if err == nil {
		raw, err = place(len(all))
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk %s: %w", d, err)
	}
	return raw[:copy(raw, all)], nil
}

// Prefetch says that these chunks will be read soon, in this order.
func (p *Snapshot) Prefetch(ds []digest.Digest) { p.ahead.Prefetch(ds) }

// Close ends the connection.
func (p *Snapshot) Close() error {
	p.stop(errClosed)
	err := p.conn.Close()
	p.ahead.Close()
	return err
}

var errClosed = errors.New("the snapshot is closed")
