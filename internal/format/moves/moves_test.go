package moves_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

type move struct{ from, to moves.Place }

func some(n int) []move {
	var list []move
	for i := range n {
		list = append(list, move{
			moves.Place{Pack: pack.ID{Session: uint64(i / 600), Number: uint32(i / 300 % 2)}, Off: uint32(i % 300 * 7)},
			moves.Place{Pack: pack.ID{Session: 99, Number: uint32(i % 5)}, Off: uint32(i)},
		})
	}
	return list
}

func write(t testing.TB, list []move) []byte {
	t.Helper()
	var b bytes.Buffer
	w := moves.NewWriter(&b)
	for _, m := range list {
		if err := w.Add(m.from, m.to); err != nil {
			t.Fatal(err)
		}
	}
	n, err := w.Close()
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("it says %d bytes, %v; %d were written", n, err, b.Len())
	}
	return b.Bytes()
}

func open(b []byte) (*moves.List, error) { return moves.Open(bytes.NewReader(b), int64(len(b))) }

const golden = "0000000000000102" + "00000003" + "00000005" + // from session 258, pack 3, offset 5
	"0000000000000103" + "00000000" + "07000000" + // to session 259, pack 0, offset 7
	"0100000000000000" + // one
	"85032476c362ffa6a0443eed2b2b151bd1857bf83161f1344c8b190e56190fe8" + "48464d4f56455331" // HFMOVES1

func TestOneMoveHasTheseBytes(t *testing.T) {
	b := write(t, []move{{moves.Place{Pack: pack.ID{Session: 258, Number: 3}, Off: 5}, moves.Place{Pack: pack.ID{Session: 259}, Off: 7}}})
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestEveryMoveIsFoundAndNoOther(t *testing.T) {
	for _, n := range []int{1, 2, 2047, 2048, 2049, 5000} {
		list := some(n)
		l, err := open(write(t, list))
		if err != nil || l.Chunks() != int64(n) {
			t.Fatalf("%v, %v", l, err)
		}
		for _, m := range list {
			if to, ok, err := l.Find(m.from); to != m.to || !ok || err != nil {
				t.Fatalf("%v: %v, %v, %v; want %v", m.from, to, ok, err, m.to)
			}
			m.from.Off++
			if to, ok, err := l.Find(m.from); ok || err != nil {
				t.Fatalf("%v, which did not move: %v, %v", m.from, to, err)
			}
		}
		i := 0
		err = l.Each(func(from, to moves.Place) error {
			if list[i] != (move{from, to}) {
				t.Fatalf("move %d: %v to %v", i, from, to)
			}
			i++
			return nil
		})
		if err != nil || i != n {
			t.Errorf("%d of %d moves, %v", i, n, err)
		}
	}
}

func TestMovesOutOfOrderAreRefused(t *testing.T) {
	w := moves.NewWriter(io.Discard)
	if _, err := w.Close(); !errors.Is(err, moves.ErrFormat) {
		t.Errorf("no moves: %v", err)
	}
	p := moves.Place{Pack: pack.ID{Session: 1, Number: 256}, Off: 256}
	if err := w.Add(p, moves.Place{}); err != nil {
		t.Fatal(err)
	}
	for _, before := range []moves.Place{
		p,
		{Pack: p.Pack, Off: 255},
		{Pack: pack.ID{Session: 1, Number: 255}, Off: 257},
		{Pack: pack.ID{Number: 257}, Off: 257},
	} {
		if err := w.Add(before, moves.Place{}); !errors.Is(err, moves.ErrOrder) {
			t.Errorf("%v behind %v: %v", before, p, err)
		}
	}
}

func TestDamagedListsAreRefused(t *testing.T) {
	good := write(t, some(10))
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 1
		if _, err := open(b); !errors.Is(err, moves.ErrFormat) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for n := range good {
		if _, err := open(good[:n]); !errors.Is(err, moves.ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := moves.Open(bytes.NewReader(good), int64(len(good))+moves.EntrySize); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, moves.ErrFormat) {
		t.Errorf("shorter than was told: %v", err)
	}
}

func seal(b []byte) {
	if len(b) >= moves.FooterSize {
		sum := sha256.Sum256(b[:len(b)-40])
		copy(b[len(b)-40:], sum[:])
	}
}

func TestASoundListOutOfOrderIsRefused(t *testing.T) {
	b := write(t, some(3))
	copy(b[moves.EntrySize:], b[:moves.EntrySize])
	seal(b)
	if _, err := open(b); !errors.Is(err, moves.ErrFormat) {
		t.Errorf("the same place twice: %v", err)
	}
}

type fails struct{ after int }

var errDisk = errors.New("disk full")

func (f *fails) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestAWriteThatFailsIsTold(t *testing.T) {
	for after := range 3 {
		w := moves.NewWriter(&fails{after})
		var err error
		for _, m := range some(2100) {
			if err = w.Add(m.from, m.to); err != nil {
				break
			}
		}
		if _, cerr := w.Close(); !errors.Is(cerr, errDisk) || err != nil && !errors.Is(err, errDisk) {
			t.Errorf("after %d writes: %v, %v", after, err, cerr)
		}
	}
}

// What opens is written anew with the same bytes.
func FuzzOpen(f *testing.F) {
	f.Add(write(f, some(1)), false)
	f.Add(write(f, some(20)), true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			seal(b)
		}
		l, err := open(b)
		if err != nil {
			if !errors.Is(err, moves.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		var list []move
		err = l.Each(func(from, to moves.Place) error {
			list = append(list, move{from, to})
			return nil
		})
		if err != nil || !bytes.Equal(write(t, list), b) {
			t.Fatalf("%v does not survive a round trip, %v", list, err)
		}
	})
}
