package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// checker reads chunks in parallel and remembers the verdicts of one
// verification. Memory: workers × (one encoded chunk + one plain chunk), plus
// 32 MiB of remembered digests.
type checker struct {
	store    *Store
	workers  int
	key      *chunkcrypt.Key
	progress func(repo.VerifyProgress)

	chunks, bytes, plain atomic.Int64

	mu   sync.Mutex
	at   repo.VerifyProgress
	good *digestSet
	bad  map[digest.Digest]error // few, or the store is lost anyway
}

const goodCache = 1 << 20

func newChecker(s *Store, opt repo.VerifyOptions, total int) *checker {
	c := &checker{
		store: s, workers: opt.Workers, key: opt.Key, progress: opt.Progress,
		good: newDigestSet(goodCache), bad: map[digest.Digest]error{},
	}
	if c.workers <= 0 {
		c.workers = runtime.GOMAXPROCS(0) + 1 // one waits for the disk
	}
	c.at.Total = total
	return c
}

// begin says which snapshot comes next.
func (c *checker) begin(n names.Snapshot, done int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at.Snapshot, c.at.Done = n, done
}

func (c *checker) report() {
	if c.progress == nil {
		return
	}
	c.mu.Lock()
	at := c.at
	c.mu.Unlock()
	at.Chunks, at.Bytes, at.PlainBytes = c.chunks.Load(), c.bytes.Load(), c.plain.Load()
	c.progress(at)
}

// blob checks a blob, and decodes it where it is not encrypted.
func (c *checker) blob(snap *Snapshot, name names.Archive) error {
	raw, err := snap.Blob(name)
	if err != nil {
		return err
	}
	h, err := blob.ParseHeader(raw)
	if err == nil && (!h.Kind.Encrypted() || c.fits(snap.m)) {
		var dec *blob.Decoder
		if dec, err = blob.NewDecoder(c.key); err != nil {
			return err
		}
		defer dec.Close()
		_, err = dec.Append(nil, raw, blob.MaxPlain)
	}
	if err != nil {
		return c.store.badArchive(snap.name, name, err)
	}
	return nil
}

// fits reports whether the key at hand is the one of the manifest.
func (c *checker) fits(m *manifest.Manifest) bool {
	if c.key == nil {
		return false
	}
	fp, err := m.KeyFingerprint()
	return err == nil && fp == c.key.Fingerprint()
}

// chunkRef is one chunk that an index names.
type chunkRef struct {
	digest digest.Digest
	size   int64 // plain bytes
}

// index checks the distinct chunks of one index in parallel.
func (c *checker) index(ctx context.Context, snap *Snapshot, f manifest.File, list chunkList) ([]error, error) {
	var (
		next atomic.Int64
		mu   sync.Mutex
		errs []error
	)
	encrypted := f.CryptMode == manifest.ModeEncrypt
	eg, ctx := errgroup.WithContext(ctx)
	for range c.workers {
		eg.Go(func() error {
			w, err := c.newWorker(snap.m, encrypted)
			if err != nil {
				return err
			}
			defer w.dec.Close()
			for {
				i := int(next.Add(1) - 1)
				if i >= list.Count() {
					return nil
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				ref, err := list.Chunk(i)
				if err == nil {
					err = w.check(ctx, ref)
				}
				if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
					return cause
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s of %s, chunk %d: %w", f.Filename, snap.name, i, err))
					mu.Unlock()
				}
			}
		})
	}
	err := eg.Wait()
	c.report()
	return errs, err
}

// verdict looks up what is known of a chunk.
func (c *checker) verdict(d digest.Digest) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err, ok := c.bad[d]; ok {
		return true, err
	}
	return c.good.has(d), nil
}

func (c *checker) remember(d digest.Digest, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.good.add(d)
	} else if isDamage(err) {
		c.bad[d] = err
	}
}

// checkWorker owns the buffers of one goroutine.
type checkWorker struct {
	c          *checker
	dec        *blob.Decoder
	encrypted  bool // what the index says its chunks are
	full       bool // whether encrypted chunks can be decoded here
	raw, plain []byte
}

func (c *checker) newWorker(m *manifest.Manifest, encrypted bool) (*checkWorker, error) {
	w := &checkWorker{c: c, encrypted: encrypted, full: c.fits(m)}
	var key *chunkcrypt.Key
	if w.full {
		key = c.key
	}
	var err error
	w.dec, err = blob.NewDecoder(key)
	return w, err
}

// check verifies one chunk and sets it aside when it is damaged.
func (w *checkWorker) check(ctx context.Context, ref chunkRef) error {
	if known, err := w.c.verdict(ref.digest); known {
		return err
	}
	err := w.read(ref)
	if bad, ok := errors.AsType[*repo.CorruptError](err); ok && !errors.Is(bad.Err, errMode) {
		if aside := w.c.store.setAside(ctx, ref.digest); aside != nil && !readOnly(aside) {
			err = errors.Join(err, aside)
		}
	}
	w.c.remember(ref.digest, err)
	if n := w.c.chunks.Add(1); n%64 == 0 {
		w.c.report()
	}
	return err
}

// errMode is a chunk whose encryption is not what the index says: wrong here,
// perhaps right for another index, so it stays.
var errMode = errors.New("its encryption does not fit the archive's")

func (w *checkWorker) read(ref chunkRef) error {
	raw, err := w.c.store.readChunk(ref.digest, w.raw)
	w.raw = raw[:0]
	if err != nil {
		return err
	}
	w.c.bytes.Add(int64(len(raw)))
	w.c.plain.Add(ref.size)
	if err := w.decode(ref, raw); err != nil {
		return &repo.CorruptError{What: "chunk " + ref.digest.String(), Err: err}
	}
	return nil
}

func (w *checkWorker) decode(ref chunkRef, raw []byte) error {
	h, err := blob.Check(raw)
	if err != nil {
		return err
	}
	if h.Kind.Encrypted() != w.encrypted {
		return errMode
	}
	if w.encrypted && !w.full {
		return nil
	}
	if w.plain, err = w.dec.Append(w.plain[:0], raw, int(min(ref.size, blob.MaxChunk))); err != nil {
		return err
	}
	if int64(len(w.plain)) != ref.size {
		return fmt.Errorf("%d bytes, want %d", len(w.plain), ref.size)
	}
	name := digest.Of
	if w.encrypted {
		name = w.c.key.Digest
	}
	if got := name(w.plain); got != ref.digest {
		return fmt.Errorf("its content has digest %s", got)
	}
	return nil
}

// indexError sorts an error of opening an index into corrupt and not found out.
func (s *Store) indexError(n names.Snapshot, name names.Archive, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.badArchive(n, name, errors.New("the file is missing"))
	case errors.Is(err, fidx.ErrFormat), errors.Is(err, didx.ErrFormat):
		return s.badArchive(n, name, err)
	}
	return fmt.Errorf("archive %s in %s: %w", name, n, err)
}
