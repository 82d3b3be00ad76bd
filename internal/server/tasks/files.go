package tasks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

const (
	rotateAt = 500 << 10 // bytes of the archive
	maxOld   = 20        // archives from before
)

func (l *Log) file(name string) string { return filepath.Join(l.opt.Dir, name) }

// locked runs f while no other process works at the lists.
func (l *Log) locked(f func() error) error {
	l.lists.Lock()
	defer l.lists.Unlock()
	unlock, err := lockFile(l.file(".active.lock"))
	if err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// update moves tasks that have ended from active to archive, and adds one that
// begins.
func (l *Log) update(begins *upid.UPID) error {
	return l.locked(func() error { return l.settle(begins) })
}

func (l *Log) settle(begins *upid.UPID) error {
	text, err := os.ReadFile(l.file("active"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var active, ended []Info
	for line := range strings.Lines(string(text)) {
		i, ok := parseLine(strings.TrimSuffix(line, "\n"))
		switch {
		case !ok: // a damaged line is of no task that could be found
		case i.State == nil && l.Running(i.ID):
			active = append(active, i)
		case i.State == nil:
			s := l.end(i.ID)
			ended = append(ended, Info{i.ID, &s})
		default:
			ended = append(ended, i)
		}
	}
	if begins != nil {
		active = append(active, Info{ID: *begins})
	} else if len(ended) == 0 {
		return nil
	}
	slices.SortStableFunc(ended, func(a, b Info) int { return int(a.State.End - b.State.End) })
	// In this order: a crash in between leaves a task in both, never in none.
	if err := l.appendArchive(ended); err != nil {
		return err
	}
	if err := replace(l.file("active"), join(active)); err != nil {
		return err
	}
	return l.rotate()
}

func join(list []Info) []byte {
	var b bytes.Buffer
	for _, i := range list {
		b.WriteString(i.line())
	}
	return b.Bytes()
}

// end reads the state of a task that does not run from its log.
func (l *Log) end(id upid.UPID) State {
	tail, err := readTail(l.path(id), 2*maxLine)
	if err != nil {
		return State{Kind: Unknown, End: id.Time}
	}
	return readEnd(tail, id.Time)
}

// readTail returns up to n of the last bytes of a file.
func readTail(path string, n int64) (_ string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
	return string(b), err
}

func (l *Log) appendArchive(ended []Info) error {
	if len(ended) == 0 {
		return nil
	}
	f, err := os.OpenFile(l.file("archive"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(join(ended))
	return errors.Join(err, f.Close())
}

// rotate puts a large archive aside and removes what is too old.
func (l *Log) rotate() error {
	info, err := os.Stat(l.file("archive"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() < rotateAt {
		return err
	}
	_ = os.Remove(l.file(fmt.Sprintf("archive.%d", maxOld)))
	_ = os.Remove(l.file(fmt.Sprintf("archive.%d.zst", maxOld)))
	for n := maxOld - 1; n >= 0; n-- {
		for _, kind := range []string{"", ".zst"} {
			old := l.file(archiveName(n) + kind)
			if err := os.Rename(old, l.file(archiveName(n+1)+kind)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	l.removeLogs()
	return nil
}

func archiveName(n int) string {
	if n == 0 {
		return "archive"
	}
	return fmt.Sprintf("archive.%d", n)
}

// removeLogs removes the logs of tasks that no archive lists any more.
func (l *Log) removeLogs() {
	oldest, ok := int64(0), false
	if text, err := l.readArchive(maxOld); err == nil {
		for line := range strings.Lines(text) {
			if i, good := parseLine(strings.TrimSuffix(line, "\n")); good && i.State != nil {
				oldest, ok = i.State.End, true
				break
			}
		}
	}
	if !ok {
		return
	}
	for n := range 256 {
		dir := l.file(fmt.Sprintf("%02X", n))
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && info.ModTime().Before(time.Unix(oldest, 0)) && strings.HasPrefix(e.Name(), "UPID:") {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// replace gives a file another content in one step.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o640), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
