package tree

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// walker finds what is archived, in order.
type walker struct {
	s      *scan
	r      *reader // for directories that nobody listed ahead
	base   *base
	open   int    // names of the directories from the root to the current one
	most   int    // of open
	path   []byte // of the current directory, for patterns
	batch  *batch
	counts struct{ excluded, foreign int64 }
}

// aheadHere is how many subdirectories of one directory are listed ahead.
const aheadHere = 16

// root walks everything below the opened root.
func (w *walker) root(t *dirTask, patterns *exclude.List) error {
	defer t.dir.release()
	if err := w.emit(t.it); err != nil {
		return err
	}
	if err := w.directory(t, patterns, w.base != nil); err != nil {
		return err
	}
	return w.flush()
}

// directory walks what is in a directory that has been entered. based is
// whether the base is within the same directory.
func (w *walker) directory(t *dirTask, patterns *exclude.List, based bool) error {
	l := t.list
	if w.open += len(l.all); w.open > w.most {
		return fmt.Errorf("%s: more than %d names in the directories from the root to this one: %w", shorten(t.it.path()), w.most, ErrTooMany)
	}
	defer func() { w.open -= len(l.all) }()
	patterns = w.patterns(t, patterns)

	var soon []*dirTask // announced and not entered yet
	var at []int        // where these stand in the listing
	defer func() {
		for _, t := range soon {
			w.s.forget(t)
		}
	}()
	announced := 0
	for i, e := range l.all {
		if w.s.ctx.Err() != nil {
			return context.Cause(w.s.ctx)
		}
		if i >= announced || len(soon) < aheadHere/2 {
			from := len(soon)
			for announced = max(announced, i); announced < len(l.all) && len(soon) < aheadHere; announced++ {
				if c := l.all[announced]; c.typ == unix.DT_DIR && !w.excluded(l.name(c), true, patterns) {
					soon = append(soon, &dirTask{it: w.item(t.dir, l.name(c), enter), done: make(chan struct{})})
					at = append(at, announced)
				}
			}
			w.s.soon(soon[from:])
		}
		if len(at) > 0 && at[0] == i {
			next := soon[0]
			soon, at = soon[1:], at[1:]
			if err := w.enter(next, patterns, based); err != nil {
				return err
			}
			continue
		}
		if err := w.entry(t.dir, l.name(e), e.typ, patterns, based); err != nil {
			return err
		}
	}
	return nil
}

// entry walks a name that was not announced: no directory, an excluded one, or
// one of a file system that does not tell types.
func (w *walker) entry(d *dir, name []byte, typ uint8, patterns *exclude.List, based bool) error {
	if typ == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			typ = uint8(st.Mode & unix.S_IFMT >> 12)
		}
		if typ == unix.DT_DIR && !w.excluded(name, true, patterns) {
			return w.enter(&dirTask{it: w.item(d, name, enter), done: make(chan struct{})}, patterns, based)
		}
	}
	if w.excluded(name, typ == unix.DT_DIR, patterns) {
		w.counts.excluded++
		return nil
	}
	if d.above == nil && string(name) == pxar.ExcludeName {
		return nil // what is written under this name is ours
	}
	it := w.item(d, name, add)
	it.typ, it.todo = typ, true
	if based && typ == unix.DT_REG {
		it.old = w.base.find(it.entry.Name)
	}
	d.hold()
	return w.emit(it)
}

// enter walks a subdirectory.
func (w *walker) enter(t *dirTask, patterns *exclude.List, based bool) error {
	w.s.await(w.r, t)
	if t.it.fatal != nil {
		return t.it.fatal
	}
	if t.dir == nil {
		return w.emit(t.it) // its problem
	}
	defer t.dir.release()
	if based {
		old := w.base.find(t.it.entry.Name)
		if based = old != nil && old.Kind == pxar.Directory; based {
			w.base.enter()
			defer w.base.leave()
		}
	}
	if t.alien {
		w.counts.foreign++
	}
	t.it.entry.Kind = pxar.Directory
	if t.list.err != nil {
		t.it.fault(Incomplete, t.list.err)
	}
	if err := w.emit(t.it); err != nil {
		return err
	}
	before := len(w.path)
	w.path = append(append(w.path, '/'), t.it.entry.Name...)
	defer func() { w.path = w.path[:before] }()
	if err := w.directory(t, patterns, based); err != nil {
		return err
	}
	return w.emit(item{step: leave, fd: -1})
}

func (w *walker) item(d *dir, name []byte, s step) item {
	return item{step: s, dir: d, fd: -1, entry: pxar.Entry{Name: string(name)}}
}

// excluded matches a name in the current directory.
func (w *walker) excluded(name []byte, isDir bool, patterns *exclude.List) bool {
	if patterns == nil {
		return false
	}
	before := len(w.path)
	w.path = append(append(w.path, '/'), name...)
	action := patterns.Match(w.path, isDir)
	w.path = w.path[:before]
	return action == exclude.Exclude
}

// patterns adds those of the directory's own file.
func (w *walker) patterns(t *dirTask, l *exclude.List) *exclude.List {
	name := t.dir.path(excludeFile)
	if t.list.badFile != nil {
		w.fault(Problem{BadPattern, name, fmt.Errorf("none of its patterns count: %w", t.list.badFile)})
		return l
	}
	if t.list.patterns == nil {
		return l
	}
	more, bad := exclude.ParseFile(string(w.path), t.list.patterns)
	t.list.patterns = nil
	for _, b := range bad {
		w.fault(Problem{BadPattern, name, fmt.Errorf("line %d: %w", b.Line, b.Err)})
	}
	return l.With(more)
}

// fault reports something in its place.
func (w *walker) fault(p Problem) {
	w.add(item{step: none, fd: -1, faults: []Problem{p}})
}

func (w *walker) emit(it item) error {
	w.add(it)
	if len(w.batch.items) < batchItems {
		return nil
	}
	return w.flush()
}

func (w *walker) add(it item) {
	if w.batch == nil {
		w.batch = newBatch(batchItems + 1)
	}
	w.batch.items = append(w.batch.items, it)
}

// flush hands the batch on, even a small one.
func (w *walker) flush() error {
	b := w.batch
	if b == nil {
		return nil
	}
	w.batch = nil
	return w.s.put(b)
}

// drop gives up what was not handed on.
func (w *walker) drop() {
	if w.batch == nil {
		return
	}
	for i := range w.batch.items {
		if it := &w.batch.items[i]; it.todo {
			it.dir.release()
		}
	}
	w.batch = nil
}

// enters reports whether what is in a directory of another file system is
// archived.
func (s *scan) enters(d *dir) bool {
	if d.fs.Virtual() {
		return false
	}
	return s.o.AllFileSystems || s.devices[d.dev]
}

// openRoot opens the directory that becomes the archive.
func (s *scan) openRoot(path string) (*dirTask, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	t := &dirTask{it: item{step: enter, fd: -1, entry: pxar.Entry{Kind: pxar.Directory}}}
	err = unix.Fstat(fd, &t.it.stat)
	d := &dir{fd: fd, dev: t.it.stat.Dev}
	d.users.Store(1)
	if err == nil {
		d.fs, err = s.fsOf(fd, d.dev)
	}
	if err == nil && d.fs.Virtual() {
		err = fmt.Errorf("its file system, %s, holds no files that last", d.fs.Name())
	}
	if err == nil {
		err = s.includeDevices(d.dev)
	}
	if err == nil {
		err = s.noteOutputs()
	}
	if err != nil {
		d.release()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.metadata(&t.it, d.fs, fd)
	if t.it.fatal != nil {
		d.release()
		return nil, t.it.fatal
	}
	t.dir, t.list = d, list(fd, make([]byte, nameRoom))
	if t.list.err != nil && len(t.list.all) == 0 {
		d.release()
		return nil, fmt.Errorf("%s: %w", path, t.list.err)
	}
	if t.list.err != nil {
		t.it.fault(Incomplete, t.list.err)
	}
	return t, nil
}

// includeDevices looks up the file systems that are entered.
func (s *scan) includeDevices(root uint64) error {
	s.devices = map[uint64]bool{root: true}
	for _, path := range s.o.IncludeDev {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return fmt.Errorf("further file system: %w", &os.PathError{Op: "stat", Path: path, Err: err})
		}
		s.devices[st.Dev] = true
	}
	return nil
}
