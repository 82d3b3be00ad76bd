//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// From lseek(2); package syscall has no names for them.
const (
	seekData = 3
	seekHole = 4
)

// nextData returns the first run of data at or behind off; ok is false when
// only holes follow.
func nextData(f *os.File, off int64) (start, end int64, ok bool, err error) {
	start, err = f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, err
	}
	end, err = f.Seek(start, seekHole)
	return start, end, true, err
}

// pair is two images of one size, read side by side.
type pair struct {
	a, b *os.File
	size int64
}

func openPair(a, b string) (*pair, error) {
	fa, err := os.Open(a)
	if err != nil {
		return nil, err
	}
	fb, err := os.Open(b)
	if err != nil {
		return nil, errors.Join(err, fa.Close())
	}
	p := &pair{a: fa, b: fb}
	ia, erra := fa.Stat()
	ib, errb := fb.Stat()
	err = errors.Join(erra, errb)
	if err == nil && ia.Size() != ib.Size() {
		err = fmt.Errorf("%s has %d bytes, %s has %d", a, ia.Size(), b, ib.Size())
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.size = ia.Size()
	return p, nil
}

func (p *pair) Close() error { return errors.Join(p.a.Close(), p.b.Close()) }

// differing calls do for each piece of the given length, aligned to it, that
// differs. Where both have a hole they are the same.
func (p *pair) differing(piece int64, do func(off, n int64) error) error {
	bufA, bufB := make([]byte, piece), make([]byte, piece)
	var endA, endB, startA, startB int64 // the run of data at or behind off in each
	okA, okB := true, true
	for off := int64(0); off < p.size; {
		var err error
		if okA && off >= endA {
			startA, endA, okA, err = nextData(p.a, off)
		}
		if okB && off >= endB && err == nil {
			startB, endB, okB, err = nextData(p.b, off)
		}
		if err != nil {
			return err
		}
		next := p.size
		if okA {
			next = min(next, max(off, startA))
		}
		if okB {
			next = min(next, max(off, startB))
		}
		if next > off {
			off = max(off, next/piece*piece)
			if next == p.size {
				return nil
			}
		}
		n := min(piece, p.size-off)
		if err := errors.Join(readAt(p.a, bufA[:n], off), readAt(p.b, bufB[:n], off)); err != nil {
			return err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			if err := do(off, n); err != nil {
				return err
			}
		}
		off += n
	}
	return nil
}

func readAt(f *os.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// same fails unless both images have the same bytes.
func same(want, got string) error {
	p, err := openPair(want, got)
	if err != nil {
		return err
	}
	err = p.differing(256<<10, func(off, n int64) error {
		return fmt.Errorf("what came back differs from the image between %d and %d", off, off+n)
	})
	return errors.Join(err, p.Close())
}

// extent and changedMap are what holdfast backup --changed-map reads.
type extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

type changedMap struct {
	Base    string   `json:"base"` // snapshot that the extents are relative to
	Size    int64    `json:"size"`
	Extents []extent `json:"extents"`
}

// writeChangedMap compares both days in 64 KiB pieces, the granularity of
// QEMU's dirty bitmaps.
func writeChangedMap(name, day0, day1 string) error {
	p, err := openPair(day0, day1)
	if err != nil {
		return err
	}
	m := changedMap{Size: p.size}
	err = p.differing(64<<10, func(off, n int64) error {
		if last := len(m.Extents) - 1; last >= 0 && m.Extents[last].Offset+m.Extents[last].Length == off {
			m.Extents[last].Length += n
			return nil
		}
		m.Extents = append(m.Extents, extent{off, n})
		return nil
	})
	if err := errors.Join(err, p.Close()); err != nil {
		return err
	}
	return m.write(name)
}

func (m changedMap) write(name string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}
