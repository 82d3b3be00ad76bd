package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
)

// checker reads chunks in parallel and remembers the verdicts of one
// verification.
type checker struct {
	store    Store
	workers  int
	key      *chunkcrypt.Key
	progress func(repo.VerifyProgress)

	chunks, bytes, plain atomic.Int64

	mu   sync.Mutex
	at   repo.VerifyProgress
	good *digestset.Set
	bad  map[digest.Digest]error // few, or the store is lost anyway; both by claim
}

const goodCache = 1 << 20

func newChecker(s Store, opt repo.VerifyOptions, total int) *checker {
	c := &checker{
		store: s, workers: opt.Workers, key: opt.Key, progress: opt.Progress,
		good: digestset.New(goodCache), bad: map[digest.Digest]error{},
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
func (c *checker) blob(snap Snapshot, name names.Archive) error {
	raw, err := snap.Blob(name)
	if err != nil {
		return err
	}
	h, err := blob.ParseHeader(raw)
	if err == nil && (!h.Kind.Encrypted() || c.fits(snap.Manifest())) {
		var dec *blob.Decoder
		if dec, err = blob.NewDecoder(c.key); err != nil {
			return err
		}
		defer dec.Close()
		_, err = dec.Append(nil, raw, blob.MaxPlain)
	}
	if err != nil {
		return &repo.CorruptError{What: "archive " + name.String() + " in " + snap.Name().String(), Err: err}
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

// lanes is how many chunks a worker takes at a time, to hash them together.
const lanes = 2

// pass is one run over a list of chunks.
type pass struct {
	c         *checker
	snap      Snapshot
	file      manifest.File
	encrypted bool // what the manifest says of its chunks
	// Chunks are announced step at a time, ahead before their turn.
	ahead, step int

	mu   sync.Mutex
	errs []error
}

// index checks the chunks of one index.
func (c *checker) index(ctx context.Context, snap Snapshot, f manifest.File, list chunkList) ([]error, error) {
	p := &pass{
		c: c, snap: snap, file: f, encrypted: f.CryptMode == manifest.ModeEncrypt,
		ahead: 2 * lanes * c.workers, // one round in work, one on its way from the disk
		step:  lanes,
	}
	placer, ok := snap.(Placer)
	if !ok {
		err := p.run(ctx, list)
		return p.errs, err
	}
	p.ahead = max(p.ahead, placer.Ahead())
	p.step = max(lanes, p.ahead/4/lanes*lanes)
	part := make(placed, 0, min(window, list.Count()))
	for first := 0; first < list.Count(); first += window {
		var err error
		if part, err = arrange(ctx, part, placer, list, first); err != nil {
			return append(p.errs, fmt.Errorf("%s of %s, %w", f.Filename, snap.Name(), err)), nil
		}
		if err := p.run(ctx, part); err != nil {
			return p.errs, err
		}
	}
	return p.errs, nil
}

// run checks the distinct chunks of a list in parallel.
func (p *pass) run(ctx context.Context, list chunkList) error {
	var next atomic.Int64
	eg, ctx := errgroup.WithContext(ctx)
	for range p.c.workers {
		eg.Go(func() error {
			w, err := p.newWorker()
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
				w.announce(list, first)
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
						p.blame(first+i, j)
					}
				}
			}
		})
	}
	err := eg.Wait()
	p.c.report()
	return err
}

// blame notes what is wrong with the chunk at i of the list.
func (p *pass) blame(i int, j job) {
	if j.chunk.digest != (digest.Digest{}) {
		i = j.chunk.slot
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs = append(p.errs, fmt.Errorf("%s of %s, chunk %d: %w", p.file.Filename, p.snap.Name(), i, j.err))
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
	} else if IsDamage(err) {
		c.bad[claim] = err
	}
}
