package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/throttle"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// treeFlag names a flag that is for archives of directories alone, "" if none
// was given.
func (o *restoreOptions) treeFlag() string {
	switch {
	case o.format != "":
		return "format"
	case o.path != "":
		return "path"
	case len(o.patterns) > 0:
		return "pattern"
	case o.prelude != "":
		return "prelude-target"
	}
	return o.files.given()
}

// checkTree refuses options that contradict each other, and says what the archive
// becomes.
func (o *restoreOptions) checkTree() (format string, err error) {
	format = o.format
	if format == "" {
		if format = "plain"; o.target == "-" {
			format = "pxar"
		}
	}
	switch format {
	case "plain", "tar", "zip", "pxar":
	default:
		return "", usagef("--format %q is not plain, tar, zip or pxar", o.format)
	}
	switch {
	case o.base != "":
		return "", usagef("--base is for disk images")
	case isNBD(o.target):
		return "", usagef("an export holds a disk image, and %s holds a directory", o.archive)
	case format == "plain" && o.target == "-":
		return "", usagef("a directory does not go to standard output: --format is tar, zip or pxar there")
	case format == "plain" && o.format == "" && looksLikeFile(o.target):
		return "", hint(usagef("%s would become a directory", o.target), "--format tar, zip or pxar makes a file; for a directory end the name in /")
	case format == "plain":
		return format, nil
	case o.inPlace:
		return "", usagef("--in-place needs a directory, and --format %s makes a file", format)
	case o.files.given() != "":
		return "", usagef("--%s is for restores to a directory, and --format %s makes a file", o.files.given(), format)
	case o.allowHoles:
		return "", usagef("--allow-holes is for restores to a directory: a file in the middle of a stream cannot be left out")
	}
	return format, nil
}

// looksLikeFile reports whether a target that is not there has the name of an
// archive.
func looksLikeFile(target string) bool {
	switch filepath.Ext(target) {
	case ".tar", ".zip", ".pxar":
		_, err := os.Stat(target)
		return err != nil
	}
	return false
}

// treeRestore is one archive of a directory on its way out of a snapshot.
type treeRestore struct {
	*app
	o      restoreOptions
	snap   repo.Snapshot
	parts  filearchive.Parts
	key    *chunkcrypt.Key
	part   extract.Selection
	single bool  // the part is one file, and no directory
	size   int64 // bytes of the archive
	open   []io.Closer
}

func runRestoreTree(ctx context.Context, a *app, o restoreOptions, rate int64) error {
	format, err := o.checkTree()
	if err != nil {
		return err
	}
	if o.target == "-" && ui.IsTerminal(a.Stdout) {
		return hint(usagef("an archive is not written to a terminal"), "name a directory, or send standard output elsewhere")
	}
	x, err := o.files.options(o.inPlace, o.overwrite)
	if err != nil {
		return err
	}
	list, err := includePatterns(o.patterns)
	if err != nil {
		return err
	}
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, s repo.Snapshot) error {
		t := &treeRestore{app: a, o: o, snap: throttled(s, rate), part: extract.Selection{Path: o.path, Patterns: list}}
		defer t.close()
		if err := t.find(ctx); err != nil {
			return err
		}
		if format == "plain" {
			return t.plain(ctx, x)
		}
		return t.stream(ctx, format)
	})
}

// find looks the archive up in the manifest, and gets the key for it.
func (t *treeRestore) find(ctx context.Context) (err error) {
	m := t.snap.Manifest()
	t.parts, err = filearchive.Find(m, t.o.archive)
	if errors.Is(err, repo.ErrNotFound) {
		return hint(fmt.Errorf("snapshot %s: %w", show(t.snap.Name()), err), "it has %s", join(archiveNames(m.Files)))
	}
	if err != nil {
		return usage(err)
	}
	encrypted := false
	for _, name := range []names.Archive{t.parts.Meta, t.parts.Payload} {
		if f, ok := m.File(string(name)); ok {
			t.size += int64(f.Size)
			encrypted = encrypted || f.CryptMode == manifest.ModeEncrypt
		}
	}
	t.key, err = t.keyFor(ctx, t.o.key, show(t.snap.Name()), m, encrypted)
	return err
}

// close closes what was opened: before something is opened a second time, too,
// since each has its cache.
func (t *treeRestore) close() {
	for _, c := range t.open {
		_ = c.Close() // was only read
	}
	t.open = nil
}

// inARow opens the whole archive from its beginning.
func (t *treeRestore) inARow(ctx context.Context) (*filearchive.Stream, error) {
	s, err := filearchive.OpenStream(ctx, t.snap, t.parts, t.key, t.o.workers)
	if err == nil {
		t.open = append(t.open, s)
	}
	return s, err
}

// atRandom opens the archive, or a part of it, for jumps.
func (t *treeRestore) atRandom(ctx context.Context, part extract.Selection) (*extract.Walker, error) {
	s, err := filearchive.Open(ctx, t.snap, t.parts, t.key, nil)
	if err != nil {
		return nil, err
	}
	t.open = append(t.open, s)
	w, err := extract.Walk(s.Archive, part)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint(mark(repo.ErrNotFound, "archive %s has no %s", t.parts.Name(), ui.Path(part.Path)), "'holdfast catalog shell' shows what there is")
	}
	return w, err
}

// whole reports whether everything is wanted.
func (t *treeRestore) whole() bool { return t.part.Path == "" && t.part.Patterns == nil }

// name is what messages call the archive.
func (t *treeRestore) name() string { return t.parts.Name() }

// plain restores to a directory.
func (t *treeRestore) plain(ctx context.Context, x extract.Options) error {
	x.Problem = t.extractProblems(t.name())
	if t.o.workers > 0 {
		x.Workers = min(t.o.workers, 64)
	}
	if t.o.allowHoles {
		x.Damaged = fetch.IsDamage
	}
	src, target, err := t.place(ctx)
	if err != nil {
		return t.explain(err)
	}
	x.KeepRoot = t.single
	if err := t.savePrelude(ctx); err != nil {
		return err
	}
	start := t.Now()
	var res extract.Result
	err = t.watch("restore", x.Counters, func() (err error) {
		res, err = extract.Directory(ctx, src, target, x)
		return err
	})
	if err != nil {
		return t.explain(err)
	}
	t.tellFlaws(src, t.name())
	if t.part.Patterns != nil && res.Nothing() {
		return t.nothing()
	}
	var back *extract.Verification
	if t.o.files.verify {
		if back, err = t.readBack(ctx, target, x); err != nil {
			return err
		}
	}
	t.tellNotSet(&res, t.name())
	if back != nil {
		t.tellVerified(back, t.name())
	}
	if err := t.show(&res, back, "plain", t.Now().Sub(start)); err != nil {
		return err
	}
	return extractVerdict(&res, back, x.SkipDevices)
}

// nothing says that patterns select nothing.
func (t *treeRestore) nothing() error {
	return hint(fmt.Errorf("nothing in %s matches the patterns", t.name()), "'holdfast catalog shell' shows what there is; patterns are quoted for the shell")
}

// source opens what is restored to a directory.
func (t *treeRestore) source(ctx context.Context) (extract.Source, error) {
	if t.whole() && !t.o.allowHoles {
		return t.inARow(ctx)
	}
	return t.atRandom(ctx, t.part)
}

// place opens what is restored, and says into which directory it goes: a file
// may get another name than in the archive.
func (t *treeRestore) place(ctx context.Context) (extract.Source, string, error) {
	src, err := t.source(ctx)
	if err != nil {
		return nil, "", err
	}
	w, ok := src.(*extract.Walker)
	if !ok || !w.IsFile() {
		return src, t.o.target, nil
	}
	t.single = true
	t.close()
	dir, name := placeOf(t.o.target)
	t.part.Name = name
	src, err = t.atRandom(ctx, t.part)
	return src, dir, err
}

// readBack compares the target with the archive.
func (t *treeRestore) readBack(ctx context.Context, target string, x extract.Options) (*extract.Verification, error) {
	t.close()
	src, err := t.source(ctx)
	if err != nil {
		return nil, t.explain(err)
	}
	o := extract.VerifyOptions{Skip: x.Skip, KeepRoot: x.KeepRoot, IDs: x.IDs, Problem: x.Problem, Counters: new(extract.Counters)}
	var back extract.Verification
	err = t.watch("verify", o.Counters, func() (err error) {
		back, err = extract.Verify(ctx, src, target, o)
		return err
	})
	if err != nil {
		return nil, t.explain(err)
	}
	return &back, nil
}

// placeOf says where a single file goes: into a directory, or under another name.
func placeOf(target string) (dir, name string) {
	if info, err := os.Stat(target); err == nil && info.IsDir() || strings.HasSuffix(target, "/") {
		return target, ""
	}
	return filepath.Dir(target), filepath.Base(target)
}

// watch shows the progress of a job.
func (t *treeRestore) watch(verb string, c *extract.Counters, job func() error) error {
	total := t.size // of the contents somewhat less, since it counts the metadata too
	if !t.whole() {
		total = 0 // nobody knows
	}
	var ended atomic.Bool
	stop := t.follow(t.meter(verb+" "+t.name(), ui.Bytes), func() (int64, int64, string) {
		n := c.Bytes.Load()
		if ended.Load() {
			return n, n, entries(c.Entries.Load())
		}
		return n, total, entries(c.Entries.Load())
	})
	err := job()
	ended.Store(err == nil)
	stop(err == nil)
	return err
}

// explain adds what is being read, and what to do.
func (t *treeRestore) explain(err error) error {
	if exitCode(err) != exitDamaged {
		return explainExtract(err)
	}
	if name := "archive " + t.name() + " of "; !strings.Contains(err.Error(), name) {
		err = fmt.Errorf("%s%s: %w", name, show(t.snap.Name()), err)
	}
	if errors.Is(err, pxar.ErrFormat) || t.o.allowHoles {
		return err
	}
	return hint(err, "pass --allow-holes with a directory as target to restore all other files, or restore another snapshot")
}

// savePrelude writes the prelude to the file that was asked for.
func (t *treeRestore) savePrelude(ctx context.Context) error {
	if t.o.prelude == "" {
		return nil
	}
	s, err := filearchive.OpenMeta(ctx, t.snap, t.parts, t.key, nil)
	if err != nil {
		return err
	}
	t.open = append(t.open, s)
	prelude := s.Prelude()
	if prelude == nil {
		t.warn("%s has no prelude: nothing is written to %s", t.name(), t.o.prelude)
		return nil
	}
	f, err := createFile(t.o.prelude, t.o.overwrite)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(prelude); err != nil {
		return err
	}
	return f.Finish()
}

// createFile makes a file that appears when it is complete.
func createFile(path string, overwrite bool) (*fileops.NewFile, error) {
	create := fileops.Create
	if overwrite {
		create = fileops.Replace
	}
	f, err := create(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, hint(fmt.Errorf("%s exists and is left alone", path), "--overwrite replaces it")
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint(fmt.Errorf("%s cannot be written: there is no directory %s", path, filepath.Dir(path)), "make it first, or check the path")
	case err != nil:
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // the path in it has a name of a moment
		}
		return nil, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return f, nil
}

// show prints the result.
func (t *treeRestore) show(res *extract.Result, v *extract.Verification, format string, took time.Duration) error {
	type out struct {
		Snapshot string  `json:"snapshot"`
		Archive  string  `json:"archive"`
		Target   string  `json:"target"`
		Format   string  `json:"format"`
		Seconds  float64 `json:"elapsed"`
		extractJSON
	}
	line := fmt.Sprintf("restored %s of %s to %s: %s in %s", t.name(), show(t.snap.Name()), t.o.target, extractLine(res), ui.Duration(took))
	if v != nil && v.Explained(res) {
		line += ", read back and compared"
	}
	if t.o.target == "-" { // standard output is the archive
		t.say("%s", line)
		return nil
	}
	return t.print(out{show(t.snap.Name()), t.name(), t.o.target, format, took.Seconds(), extractOf(res, v)}, func() error {
		return t.printf("%s\n", line)
	})
}

// limited is a snapshot whose chunks come at a bounded rate. What it hides is
// that chunks can be announced: they would come at once.
type limited struct {
	repo.Snapshot
	limit *throttle.Limiter
}

func throttled(s repo.Snapshot, rate int64) repo.Snapshot {
	if rate <= 0 {
		return s
	}
	return limited{s, throttle.New(rate)}
}

// ReadChunk implements [repo.Snapshot].
func (l limited) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	b, err := l.Snapshot.ReadChunk(ctx, d, buf)
	if err == nil {
		err = l.limit.Wait(ctx, len(b))
	}
	return b, err
}
