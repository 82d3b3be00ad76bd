package tasks

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Filter says which tasks are listed: all that pass every part of it that is set.
type Filter struct {
	Running bool
	Errors  bool   // not those that ended well
	User    string // part of the auth id
	Type    string // part of the type
	Store   string // worked on it
	Since   int64  // 0: not set; seconds since 1970-01-01 UTC, of the start
	Until   int64
	Kinds   []Kind
	See     func(upid.UPID) bool // nil: all

	Start, Limit int // how many are left out and then listed; limit 0: all
}

// List lists tasks, those that run before those that have ended, the youngest
// first. total counts what there is, or one more than what was listed when there
// may be more.
func (l *Log) List(f Filter) (list []Info, total int, err error) {
	skip := f.Start
	add := func(i Info) (more bool) {
		if !f.passes(i) {
			return true
		}
		if skip > 0 {
			skip--
			return true
		}
		list = append(list, i)
		return f.Limit == 0 || len(list) < f.Limit
	}
	err = l.each(f, add)
	total = len(list) + f.Start
	if len(list) > 0 && f.Limit > 0 && len(list) >= f.Limit {
		total++
	}
	return list, total, err
}

// each calls add for the tasks, the youngest first, until it has enough.
func (l *Log) each(f Filter, add func(Info) bool) error {
	return l.locked(func() error {
		if err := l.settle(nil); err != nil {
			return err
		}
		text, err := os.ReadFile(l.file("active"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !backwards(string(text), add) || f.Running {
			return nil
		}
		for n := 0; n <= maxOld; n++ {
			text, err := l.readArchive(n)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			more := backwards(text, func(i Info) bool {
				// Those that ended before began before, too.
				return (f.Since == 0 || i.State == nil || i.State.End >= f.Since) && add(i)
			})
			if !more {
				return nil
			}
		}
		return nil
	})
}

// backwards calls add for the lines of a text from its last one.
func backwards(text string, add func(Info) bool) (more bool) {
	for text = strings.TrimSuffix(text, "\n"); text != ""; {
		at := strings.LastIndexByte(text, '\n')
		if i, ok := parseLine(text[at+1:]); ok && !add(i) {
			return false
		}
		text = text[:max(at, 0)]
	}
	return true
}

// readArchive returns one of the archives. Each is bounded by when it is put aside.
func (l *Log) readArchive(n int) (string, error) {
	const most = 4 << 20
	b, err := readUpTo(l.file(archiveName(n)), most)
	if err == nil || n == 0 && errors.Is(err, fs.ErrNotExist) {
		return string(b), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	b, err = readUpTo(l.file(archiveName(n)+".zst"), most)
	if err != nil {
		return "", err
	}
	dec, err := zstd.NewDecoder()
	if err != nil {
		return "", err
	}
	defer dec.Close()
	plain := make([]byte, most)
	size, err := dec.Decompress(plain, b)
	if err != nil {
		size = 0 // damaged: what it lists is lost, the rest is not
	}
	return string(plain[:size]), nil
}

func readUpTo(path string, most int64) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, most))
}

func (f *Filter) passes(i Info) bool {
	id := i.ID
	switch {
	case f.Running && i.State != nil,
		f.Errors && i.State != nil && i.State.Kind == OK,
		f.Since != 0 && id.Time < f.Since,
		f.Until != 0 && id.Time > f.Until,
		!strings.Contains(id.Auth, f.User),
		!strings.Contains(id.Type, f.Type),
		f.Store != "" && StoreOf(id) != f.Store,
		f.Kinds != nil && (i.State == nil || !slices.Contains(f.Kinds, i.State.Kind)):
		return false
	}
	return f.See == nil || f.See(id)
}

// StoreOf returns the datastore that a task works on, "" for none.
func StoreOf(id upid.UPID) string {
	parts := strings.Split(id.Worker, ":")
	if id.Type == "syncjob" {
		if len(parts) < 3 {
			return ""
		}
		return parts[2]
	}
	return parts[0]
}
