package datastore

import (
	"context"
	"encoding/binary"
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
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
)

// checker reads chunks in parallel and remembers the verdicts of one
// verification. Memory: workers × (one encoded chunk + one plain chunk), plus
// 32 MiB of remembered digests.
type checker struct {
	store    *Store
	workers  int
	ahead    int // chunks
	key      *chunkcrypt.Key
	progress func(repo.VerifyProgress)

	chunks, bytes, plain atomic.Int64

	mu   sync.Mutex
	at   repo.VerifyProgress
	good *digestset.Set
	bad  map[digest.Digest]error // few, or the store is lost anyway; both by claim
}

const goodCache = 1 << 20

func newChecker(s *Store, opt repo.VerifyOptions, total int) *checker {
	c := &checker{
		store: s, workers: opt.Workers, key: opt.Key, progress: opt.Progress,
		good: digestset.New(goodCache), bad: map[digest.Digest]error{},
	}
	if c.workers <= 0 {
		c.workers = runtime.GOMAXPROCS(0) + 1 // one waits for the disk
	}
	c.ahead = 2 * lanes * c.workers // one round in work, one on its way from the disk
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

// claim names what an index says of a chunk. Another index may say something else
// of the same chunk, and be right.
func (r chunkRef) claim(encrypted bool) digest.Digest {
	b := binary.LittleEndian.AppendUint64(r.digest[:], uint64(r.size))
	if encrypted {
		b = append(b, 1)
	}
	return digest.Of(b)
}

// lanes is how many chunks a worker takes at a time, to hash them together.
const lanes = 2

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
			var batch [lanes]job
			for {
				first := int(next.Add(lanes) - lanes)
				if first >= list.Count() {
					return nil
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				c.hint(list, first+c.ahead, encrypted)
				jobs := batch[:min(lanes, list.Count()-first)]
				for i := range jobs {
					jobs[i] = job{}
					jobs[i].chunk, jobs[i].err = list.Chunk(first + i)
				}
				w.check(ctx, jobs)
				for i, j := range jobs {
					if cause := context.Cause(ctx); cause != nil && errors.Is(j.err, cause) {
						return cause
					}
					if j.err != nil {
						mu.Lock()
						errs = append(errs, fmt.Errorf("%s of %s, chunk %d: %w", f.Filename, snap.name, first+i, j.err))
						mu.Unlock()
					}
				}
			}
		})
	}
	err := eg.Wait()
	c.report()
	return errs, err
}

// hint says that the lanes chunks from first on will be read soon. An index
// that cannot be read is found out when it is their turn.
func (c *checker) hint(list chunkList, first int, encrypted bool) {
	for i := first; i < min(first+lanes, list.Count()); i++ {
		ref, err := list.Chunk(i)
		if err != nil {
			return
		}
		if known, _ := c.verdict(ref.claim(encrypted)); !known {
			c.store.fs.WillNeed(names.ChunkPath(ref.digest))
		}
	}
}

// verdict looks up what is known of a claim.
func (c *checker) verdict(claim digest.Digest) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err, ok := c.bad[claim]; ok {
		return true, err
	}
	return c.good.Has(claim), nil
}

func (c *checker) remember(claim digest.Digest, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.good.Add(claim)
	} else if isDamage(err) {
		c.bad[claim] = err
	}
}

// checkWorker owns the buffers of one goroutine.
type checkWorker struct {
	c         *checker
	key       *chunkcrypt.Key // nil: encrypted chunks cannot be decoded here
	dec       *blob.Decoder
	encrypted bool // what the index says its chunks are
	raw       []byte
	plain     [lanes][]byte
}

// job is one chunk on its way through a worker.
type job struct {
	chunk   chunkRef
	plain   []byte // decoded, its digest still to be compared; nil: nothing to compare
	decided bool   // err is the verdict of before
	err     error
}

func (c *checker) newWorker(m *manifest.Manifest, encrypted bool) (*checkWorker, error) {
	w := &checkWorker{c: c, encrypted: encrypted}
	if c.fits(m) {
		w.key = c.key
	}
	var err error
	w.dec, err = blob.NewDecoder(w.key)
	return w, err
}

// check verifies chunks, leaves the verdicts in the jobs, and sets aside what
// is damaged.
func (w *checkWorker) check(ctx context.Context, jobs []job) {
	for i := range jobs {
		j := &jobs[i]
		if j.err != nil {
			continue
		}
		if j.decided, j.err = w.c.verdict(j.chunk.claim(w.encrypted)); !j.decided {
			j.plain, j.err = w.read(j.chunk, &w.plain[i])
		}
	}
	w.compare(jobs)
	for i := range jobs {
		j := &jobs[i]
		if j.decided {
			continue
		}
		if bad, ok := errors.AsType[*repo.CorruptError](j.err); ok && !errors.Is(bad.Err, errMode) && !errors.Is(bad.Err, errLength) {
			sound, err := w.c.store.setAside(ctx, j.chunk.digest, func() error { return w.again(j.chunk, &w.plain[i]) })
			switch {
			case sound:
				j.err = nil
			case err != nil && !readOnly(err):
				j.err = errors.Join(j.err, err)
			}
		}
		if errors.Is(j.err, repo.ErrChunkMissing) {
			if err := w.c.store.markLost(j.chunk.digest); err != nil && !readOnly(err) {
				j.err = errors.Join(j.err, err)
			}
		}
		w.c.remember(j.chunk.claim(w.encrypted), j.err)
		if n := w.c.chunks.Add(1); n%64 == 0 {
			w.c.report()
		}
	}
}

// again checks one chunk in full.
func (w *checkWorker) again(chunk chunkRef, buf *[]byte) error {
	plain, err := w.read(chunk, buf)
	if err != nil || plain == nil {
		return err
	}
	one := []job{{chunk: chunk, plain: plain}}
	w.compare(one)
	return one[0].err
}

// compare hashes what was decoded, two at a time.
func (w *checkWorker) compare(jobs []job) {
	var todo [lanes]*job
	n := 0
	for i := range jobs {
		if jobs[i].plain != nil {
			todo[n] = &jobs[i]
			n++
		}
	}
	var sums [lanes]digest.Digest
	switch {
	case n == 2 && w.encrypted:
		sums[0], sums[1] = w.key.Digest2(todo[0].plain, todo[1].plain)
	case n == 2:
		sums[0], sums[1] = digest.Of2(todo[0].plain, todo[1].plain)
	case n == 1 && w.encrypted:
		sums[0] = w.key.Digest(todo[0].plain)
	case n == 1:
		sums[0] = digest.Of(todo[0].plain)
	}
	for i, j := range todo[:n] {
		if sums[i] != j.chunk.digest {
			j.err = badChunk(j.chunk.digest, fmt.Errorf("its content has digest %s", sums[i]))
		}
	}
}

func badChunk(d digest.Digest, err error) error {
	return &repo.CorruptError{What: "chunk " + d.String(), Err: err}
}

// errMode is a chunk whose encryption is not what the index says: wrong here,
// perhaps right for another index, so it stays.
var errMode = errors.New("its encryption does not fit the archive's")

// errLength is a sound chunk of which the index says a wrong length.
var errLength = errors.New("the index says a wrong length of it")

// read checks all of a chunk but its digest. plain is nil when the chunk is
// encrypted and the key is not at hand.
func (w *checkWorker) read(ref chunkRef, buf *[]byte) (plain []byte, err error) {
	raw, err := w.c.store.readChunk(ref.digest, w.raw)
	w.raw = raw[:0]
	if err != nil {
		return nil, err
	}
	w.c.bytes.Add(int64(len(raw)))
	w.c.plain.Add(ref.size)
	if plain, err = w.decode(ref, raw, buf); err != nil {
		return nil, badChunk(ref.digest, err)
	}
	return plain, nil
}

func (w *checkWorker) decode(ref chunkRef, raw []byte, buf *[]byte) ([]byte, error) {
	h, err := blob.Check(raw)
	if err != nil {
		return nil, err
	}
	if h.Kind.Encrypted() != w.encrypted {
		return nil, errMode
	}
	if w.encrypted && w.key == nil {
		return nil, nil
	}
	most := int(min(ref.size, blob.MaxChunk))
	if cap(*buf) < most {
		*buf = make([]byte, 0, most)
	}
	plain, err := w.dec.Append((*buf)[:0], raw, most)
	if err == nil {
		*buf = plain
		if int64(len(plain)) == ref.size {
			return plain, nil
		}
		err = fmt.Errorf("%d bytes, want %d", len(plain), ref.size)
	}
	return nil, w.orLength(ref, raw, err)
}

// orLength returns err, or says that the chunk is what it is called, but not as long
// as the index says. Then it stays: whoever writes an index must not be able to
// take the chunks of others away. This is rare enough to take memory for it.
func (w *checkWorker) orLength(ref chunkRef, raw []byte, err error) error {
	plain, derr := w.dec.Append(nil, raw, blob.MaxChunk)
	if derr != nil {
		return err
	}
	d := digest.Of(plain)
	if w.encrypted {
		d = w.key.Digest(plain)
	}
	if d != ref.digest {
		return err
	}
	return fmt.Errorf("%w: %d bytes, and it has %d", errLength, ref.size, len(plain))
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
