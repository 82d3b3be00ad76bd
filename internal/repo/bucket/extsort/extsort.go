// Package extsort sorts records of one size by their bytes, in constant memory:
// what does not fit into it is kept in a temporary file, in sorted runs that are
// merged when they are read.
//
// Memory is the limit given to [New], and while records are read a buffer of
// 32 KiB for each run, of which there is one for each time that the limit was
// reached.
package extsort

import (
	"bufio"
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// Sorter collects records. It is not safe for concurrent use.
type Sorter struct {
	size, limit int
	mem         []byte
	sorted      bool // mem is
	count       int64
	file        *spool.File
	runs        []span // of the file
}

type span struct{ off, n int64 }

const readBuffer = 32 << 10

// New returns a sorter of records of size bytes, which holds up to limit bytes of
// them in memory.
func New(size, limit int) *Sorter { return &Sorter{size: size, limit: max(limit, size)} }

// Len is the number of records.
func (s *Sorter) Len() int64 { return s.count }

// Add takes a copy of a record.
func (s *Sorter) Add(record []byte) error {
	if len(record) != s.size {
		panic(fmt.Sprintf("extsort: internal error: a record of %d bytes among those of %d", len(record), s.size))
	}
	if len(s.mem)+s.size > s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.mem = append(s.mem, record...)
	s.sorted = false
	s.count++
	return nil
}

// spill writes what is in memory as a run.
func (s *Sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = spool.Create(); err != nil {
			return err
		}
	}
	s.sort()
	run := span{n: int64(len(s.mem))}
	if k := len(s.runs); k > 0 {
		run.off = s.runs[k-1].off + s.runs[k-1].n
	}
	if _, err := s.file.WriteAt(s.mem, run.off); err != nil {
		return fmt.Errorf("temporary file of sorted records: %w", err)
	}
	s.runs = append(s.runs, run)
	s.mem = s.mem[:0]
	return nil
}

func (s *Sorter) sort() {
	if !s.sorted {
		sort.Sort(&records{s.mem, s.size, make([]byte, s.size)})
		s.sorted = true
	}
}

type records struct {
	b    []byte
	size int
	swap []byte
}

func (r *records) Len() int           { return len(r.b) / r.size }
func (r *records) at(i int) []byte    { return r.b[i*r.size : (i+1)*r.size] }
func (r *records) Less(i, j int) bool { return bytes.Compare(r.at(i), r.at(j)) < 0 }
func (r *records) Swap(i, j int) {
	copy(r.swap, r.at(i))
	copy(r.at(i), r.at(j))
	copy(r.at(j), r.swap)
}

// All gives the records in ascending order, equal ones each. One is valid until the
// next. A failure is the last thing it gives. Records may be added afterwards.
func (s *Sorter) All() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s.sort()
		sources := make(merge, 0, len(s.runs)+1)
		for _, run := range s.runs {
			r := io.NewSectionReader(s.file, run.off, run.n)
			sources = append(sources, &source{r: bufio.NewReaderSize(r, readBuffer), cur: make([]byte, s.size)})
		}
		sources = append(sources, &source{r: bytes.NewReader(s.mem), cur: make([]byte, s.size)})
		left := sources[:0]
		for _, src := range sources {
			more, err := src.next()
			if err != nil {
				yield(nil, err)
				return
			}
			if more {
				left = append(left, src)
			}
		}
		heap.Init(&left)
		for len(left) > 0 {
			if !yield(left[0].cur, nil) {
				return
			}
			more, err := left[0].next()
			switch {
			case err != nil:
				yield(nil, err)
				return
			case more:
				heap.Fix(&left, 0)
			default:
				heap.Pop(&left)
			}
		}
	}
}

// Close removes the temporary file.
func (s *Sorter) Close() error {
	s.mem, s.runs = nil, nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// source is a run being read.
type source struct {
	r   io.Reader
	cur []byte
}

func (s *source) next() (bool, error) {
	_, err := io.ReadFull(s.r, s.cur)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("temporary file of sorted records: %w", err)
	}
	return true, nil
}

// merge is a heap of sources by their current record.
type merge []*source

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return bytes.Compare(m[i].cur, m[j].cur) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*source)) }
func (m *merge) Pop() any {
	old := *m
	last := old[len(old)-1]
	*m = old[:len(old)-1]
	return last
}
