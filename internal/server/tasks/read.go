package tasks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// State returns how a task ended; nil while it runs.
func (l *Log) State(id upid.UPID) (*State, error) {
	if l.Running(id) {
		return nil, nil
	}
	if _, err := os.Stat(l.path(id)); err != nil {
		return nil, l.missing(id, err)
	}
	s := l.end(id)
	return &s, nil
}

func (l *Log) missing(id upid.UPID, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	return fmt.Errorf("log of task %s: %w", id, err)
}

// Lines calls yield for up to limit lines of a log from line first on, 0 for all;
// lines are counted from 1. total is how many whole lines there are. It reads in
// constant memory.
func (l *Log) Lines(id upid.UPID, first, limit int, yield func(n int, text string) error) (total int, err error) {
	f, err := os.Open(l.path(id))
	if err != nil {
		return 0, l.missing(id, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(f, 64<<10)
	given := 0
	for {
		line, cut, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("log of task %s: %w", id, err)
		}
		total++
		if total < first || limit > 0 && given >= limit {
			continue
		}
		given++
		text := strings.ToValidUTF8(string(line), "?")
		if cut {
			text += "..."
		}
		if err := yield(total, text); err != nil {
			return total, err
		}
	}
}

// readLine reads a whole line without its end; of one that is longer than the
// buffer the beginning. A line that is still being written is no line.
func readLine(r *bufio.Reader) (line []byte, cut bool, err error) {
	line, err = r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], false, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, false, err
	}
	line = append([]byte(nil), line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return line, true, err
}

// Open opens a log as a file.
func (l *Log) Open(id upid.UPID) (*os.File, error) {
	f, err := os.Open(l.path(id))
	if err != nil {
		return nil, l.missing(id, err)
	}
	return f, nil
}
