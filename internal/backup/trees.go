package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// Detection says how a directory is archived, and with that which of its files
// need not be read. The words are those of the existing client.
type Detection string

// The ways. The zero Detection goes on with what the previous snapshot has, and
// is DetectMetadata where there is none.
const (
	DetectAuto     Detection = ""
	DetectLegacy   Detection = "legacy"   // one archive and a catalog; everything is read
	DetectData     Detection = "data"     // split; everything is read
	DetectMetadata Detection = "metadata" // split; files with unchanged metadata are not read
)

// ParseDetection reads the word of a command line.
func ParseDetection(s string) (Detection, error) {
	d := Detection(s)
	if !slices.Contains([]Detection{DetectAuto, DetectLegacy, DetectData, DetectMetadata}, d) {
		return "", fmt.Errorf("%q is no way to detect changes: want legacy, data or metadata", s)
	}
	return d, nil
}

// Tree is a directory to be archived.
type Tree struct {
	Path      string
	Detection Detection
	Options   tree.Options // but for the base
	// Archive makes the archive instead of tree.Archive, of which it keeps the
	// promises; may be nil. It is for trees that another process reads.
	Archive func(ctx context.Context, path string, out tree.Output, o tree.Options) (tree.Report, error)
}

// archive makes the archive.
func (t *Tree) archive(ctx context.Context, out tree.Output, o tree.Options) (tree.Report, error) {
	if t.Archive != nil {
		return t.Archive(ctx, t.Path, out, o)
	}
	return tree.Archive(ctx, t.Path, out, o)
}

// catalogName is the archive that lists all archives of version 1.
const catalogName names.Archive = "catalog.pcat1.didx"

// catalogAverage is the average chunk of a catalog in bytes, whatever that of
// archives is.
const catalogAverage = 512 << 10

func (t *Tree) check(name names.Archive) error {
	if !strings.HasSuffix(string(name), ".pxar.didx") {
		return fmt.Errorf("archive %s: a directory needs a name that ends in .pxar", name)
	}
	return nil
}

// checkAverage refuses an average that chunks cannot have.
func checkAverage(size int) error {
	if _, err := chunker.New(size); err != nil {
		return fmt.Errorf("chunks of a directory: %w", err)
	}
	return nil
}

// trees writes the directories of one snapshot.
type trees struct {
	w   *Writer
	ctx context.Context

	// The catalog is begun with the first archive that belongs into it.
	index   *Dynamic
	buffer  *bufio.Writer
	catalog *catalog.Writer
}

// write writes one directory.
func (t *trees) write(src Source) ([]Result, error) {
	base := strings.TrimSuffix(string(src.Name), ".pxar.didx")
	var results []Result
	var err error
	if t.detection(src, base) == DetectLegacy {
		results, err = t.whole(src)
	} else {
		results, err = t.split(src, filearchive.SplitParts(base))
	}
	if err != nil {
		return nil, firstError(t.ctx, err)
	}
	return results, nil
}

// detection decides what the user left open.
func (t *trees) detection(src Source, base string) Detection {
	if d := src.Tree.Detection; d != DetectAuto {
		return d
	}
	if snap := t.w.s.Previous(); snap != nil {
		_, whole := snap.Manifest().File(string(src.Name))
		_, split := snap.Manifest().File(string(filearchive.SplitParts(base).Meta))
		if whole && !split {
			return DetectLegacy
		}
	}
	return DetectMetadata
}

// whole writes an archive of version 1.
func (t *trees) whole(src Source) ([]Result, error) {
	if err := t.openCatalog(); err != nil {
		return nil, err
	}
	d, err := t.dynamic(src.Name, t.w.opts.ChunkSize)
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	if err := t.catalog.StartDir(string(src.Name)); err != nil {
		return nil, fmt.Errorf("archive %s: %w", catalogName, err)
	}
	rep, err := src.Tree.archive(t.ctx, tree.Output{Meta: d, Catalog: t.catalog}, src.Tree.Options)
	if err == nil {
		err = t.catalog.EndDir()
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", src.Name, err)
	}
	r, err := d.Close()
	r.Tree = &rep
	return []Result{r}, err
}

// split writes an archive of version 2.
func (t *trees) split(src Source, parts filearchive.Parts) ([]Result, error) {
	o := src.Tree.Options
	why := ""
	if t.detection(src, strings.TrimSuffix(parts.Name(), ".pxar")) == DetectMetadata {
		var closeBase func() error
		o.Base, closeBase, why = t.base(parts)
		defer func() { _ = closeBase() }() // was only read
	}
	meta, err := t.dynamic(parts.Meta, t.w.opts.ChunkSize)
	if err != nil {
		return nil, err
	}
	defer meta.Abort()
	payload, err := newPayload(t, parts.Payload)
	if err != nil {
		return nil, err
	}
	defer payload.d.Abort()
	rep, err := src.Tree.archive(t.ctx, tree.Output{Meta: meta, Payload: payload}, o)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", parts.Name(), err)
	}
	p, err := payload.close()
	if err != nil {
		return nil, err
	}
	m, err := meta.Close()
	if err != nil {
		return nil, err
	}
	if p.NotReused = why; why == "" && rep.BaseError != nil {
		p.NotReused = rep.BaseError.Error()
	}
	m.NotReused = "" // nothing of it is read but what the files tell
	m.Tree = &rep
	return []Result{p, m}, nil
}

// base opens the archive of the previous snapshot that contents may be taken
// over from; if there is none, why not.
func (t *trees) base(parts filearchive.Parts) (_ *tree.Base, closeBase func() error, why string) {
	nothing := func() error { return nil }
	idx, closer, why := t.w.PreviousDynamic(parts.Payload)
	if idx == nil {
		return nil, nothing, why
	}
	snap, why := t.w.previousOf(parts.Meta)
	if snap == nil {
		_ = closer.Close()
		return nil, nothing, why
	}
	s, err := filearchive.OpenStream(t.ctx, snap, filearchive.Parts{Meta: parts.Meta}, t.w.opts.chunkKey(), 1)
	if err != nil {
		_ = closer.Close()
		return nil, nothing, err.Error()
	}
	if s.Version() != 2 {
		why = fmt.Sprintf("%s: %s is not the metadata of a split archive", snap.Name(), parts.Meta)
		_ = errors.Join(s.Close(), closer.Close())
		return nil, nothing, why
	}
	return &tree.Base{Meta: s.Reader, Payload: idx}, func() error { return errors.Join(s.Close(), closer.Close()) }, ""
}

// dynamic begins an archive that is cut by content alone.
func (t *trees) dynamic(name names.Archive, average int) (*Dynamic, error) {
	c, err := chunker.New(average)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	return t.w.Dynamic(t.ctx, name, c)
}

func (t *trees) openCatalog() (err error) {
	if t.index != nil {
		return nil
	}
	if t.index, err = t.dynamic(catalogName, catalogAverage); err != nil {
		return err
	}
	t.buffer = bufio.NewWriterSize(t.index, 64<<10)
	t.catalog = catalog.NewWriter(t.buffer)
	return nil
}

// closeCatalog completes the catalog, if there is one.
func (t *trees) closeCatalog() ([]Result, error) {
	if t.index == nil {
		return nil, nil
	}
	err := t.catalog.Close()
	if err == nil {
		err = t.buffer.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", catalogName, firstError(t.ctx, err))
	}
	r, err := t.index.Close()
	r.NotReused = ""
	return []Result{r}, err
}

// abort gives the catalog up, if it is not complete.
func (t *trees) abort() {
	if t.index != nil {
		t.index.Abort()
	}
}

// payload is the payload stream of a split archive.
type payload struct {
	d      *Dynamic
	cut    *chunker.Payload
	pieces *chunker.Pieces
	reused [][]Reused // in the order of the cutter's injections
	held   int        // chunks in reused
}

func newPayload(t *trees, name names.Archive) (*payload, error) {
	p := new(payload)
	var err error
	if p.cut, err = chunker.NewPayload(t.w.opts.ChunkSize); err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	p.pieces = chunker.NewPieces(p.piece)
	p.d, err = t.w.Dynamic(t.ctx, name, byOwner(p.cut.Max()))
	return p, err
}

// byOwner is the [Cutter] of an archive that its owner cuts.
type byOwner int

func (n byOwner) Max() int      { return int(n) }
func (byOwner) Scan([]byte) int { return 0 }
func (byOwner) Reset()          {}

// Write implements [tree.Payload].
func (p *payload) Write(b []byte) (int, error) { return p.pieces.Write(b) }

// Hint implements [tree.Payload].
func (p *payload) Hint(off int64) { p.cut.Hint(off) }

// maxHeld is how many chunks wait for the bytes before them. More could not be
// told from fewer in the archive; they would only take memory.
const maxHeld = 4096

// Reuse implements [tree.Payload].
func (p *payload) Reuse(at int64, chunks []tree.Chunk) error {
	list, size := make([]Reused, len(chunks)), int64(0)
	for i, c := range chunks {
		list[i] = Reused{Digest: c.Digest, Length: c.Length}
		size += int64(c.Length)
	}
	if err := p.cut.Inject(chunker.Injection{At: at, Size: size}); err != nil {
		return err
	}
	p.reused = append(p.reused, list)
	if p.held += len(list); p.held < maxHeld {
		return nil
	}
	if err := p.pieces.Flush(); err != nil {
		return err
	}
	return p.piece(nil)
}

// piece cuts a piece of the stream.
func (p *payload) piece(b []byte) error {
	for {
		n, what := p.cut.Scan(b)
		if err := p.d.Append(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		var err error
		switch what {
		case chunker.More:
			return nil
		case chunker.Cut:
			err = p.d.Cut()
		case chunker.Inject:
			err = p.d.Inject(p.reused[0])
			p.held -= len(p.reused[0])
			p.reused = p.reused[1:]
		}
		if err != nil {
			return err
		}
	}
}

func (p *payload) close() (Result, error) {
	err := p.pieces.Flush()
	if err == nil {
		err = p.piece(nil)
	}
	if err == nil {
		err = p.cut.Close()
	}
	if err != nil {
		return Result{}, p.d.fail(err)
	}
	return p.d.Close()
}
