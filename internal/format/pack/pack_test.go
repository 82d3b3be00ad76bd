package pack_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

func entries(n int) []pack.Entry {
	var list []pack.Entry
	for i := range n {
		list = append(list, pack.Entry{Digest: digest.Of([]byte{byte(i), byte(i >> 8)}), Len: uint32(i + 1)})
	}
	return list
}

// whole is a pack with these chunks, all of them zeros.
func whole(list []pack.Entry) []byte {
	var b []byte
	for _, e := range list {
		b = append(b, make([]byte, e.Len)...)
	}
	return pack.AppendTable(b, list)
}

// The smallest legal pack: one chunk of one byte.
const golden = "2a" + // the chunk
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + // its digest
	"01000000" + // its length
	"01000000" + // one chunk
	"01000000" + // the table is at 1
	"b6364f3acbe696ead4111fb931cb531f" + // checksum
	"48465041434b3031" // HFPACK01

func TestAPackOfOneByteHasTheseBytes(t *testing.T) {
	e := pack.Entry{Digest: digest.Digest(bytes.Repeat([]byte{0xaa}, 32)), Len: 1}
	b := pack.AppendTable([]byte{0x2a}, []pack.Entry{e})
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
	list, err := pack.ReadTable(bytes.NewReader(b), int64(len(b)))
	if err != nil || !slices.Equal(list, []pack.Entry{e}) {
		t.Errorf("read back: %v, %v", list, err)
	}
}

func TestTablesOfAnyLengthAreReadBack(t *testing.T) {
	for _, n := range []int{1, 2, 700, 1819, 1820, 2500} { // around the end that is read at first
		list := entries(n)
		b := whole(list)
		got, err := pack.ReadTable(bytes.NewReader(b), int64(len(b)))
		if err != nil || !slices.Equal(got, list) {
			t.Errorf("%d chunks: %d, %v", n, len(got), err)
		}
	}
}

func TestDamagedTablesAreRefused(t *testing.T) {
	good := whole(entries(3))
	for at := 6; at < len(good); at++ { // behind the chunks
		b := bytes.Clone(good)
		b[at] ^= 4
		if _, err := pack.ReadTable(bytes.NewReader(b), int64(len(b))); !errors.Is(err, pack.ErrFormat) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for n := range good {
		if _, err := pack.ReadTable(bytes.NewReader(good[:n]), int64(n)); !errors.Is(err, pack.ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := pack.ReadTable(bytes.NewReader(good), int64(len(good))+1); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pack.ErrFormat) {
		t.Errorf("shorter than was told: %v", err)
	}
	tail := good[len(good)-40:]
	if _, err := pack.ParseTable(tail, int64(len(good))); !errors.Is(err, pack.ErrFormat) {
		t.Errorf("a part of the table: %v", err)
	}
}

func TestNamesOrderAsTheirTextAndBytes(t *testing.T) {
	ids := []pack.ID{
		{}, {0, 1}, {0, math.MaxUint32}, {1, 0}, {1, 255}, {1, 256}, {255, 9}, {256, 0}, {1 << 40, 3}, {math.MaxUint64, math.MaxUint32},
	}
	for i, a := range ids {
		if got, err := pack.ParseID(a.String()); err != nil || got != a {
			t.Errorf("%s is read back as %v, %v", a, got, err)
		}
		if got := pack.IDFrom(a.Append(nil)); got != a {
			t.Errorf("%s has the bytes of %s", a, got)
		}
		for j, b := range ids {
			want := slices.Compare([]int{i}, []int{j})
			if a.Compare(b) != want || strings.Compare(a.String(), b.String()) != want || bytes.Compare(a.Append(nil), b.Append(nil)) != want {
				t.Errorf("%s and %s: %d, want %d", a, b, a.Compare(b), want)
			}
		}
	}
	if k := (pack.ID{Session: 0x2a, Number: 3}).Key(); k != "s/000000000000002a/p00000003" {
		t.Errorf("key %s", k)
	}
	for _, s := range []string{"", "12", strings.Repeat("x", 24), strings.Repeat("0", 25)} {
		if _, err := pack.ParseID(s); !errors.Is(err, pack.ErrFormat) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestPlacesThatNoPackHasAreRefused(t *testing.T) {
	for _, tc := range []struct {
		l    pack.Location
		good bool
	}{
		{pack.Location{Len: 1}, true},
		{pack.Location{Len: 0}, false},
		{pack.Location{Len: pack.MaxChunk}, true},
		{pack.Location{Len: pack.MaxChunk + 1}, false},
		{pack.Location{Off: math.MaxUint32 - 5, Len: 5}, true},
		{pack.Location{Off: math.MaxUint32 - 5, Len: 6}, false},
	} {
		if err := tc.l.Check(); (err == nil) != tc.good || err != nil && !errors.Is(err, pack.ErrFormat) {
			t.Errorf("%+v: %v", tc.l, err)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	b, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[1:], int64(len(b)))
	f.Add(whole(entries(3)), int64(len(whole(entries(3)))))
	f.Fuzz(func(t *testing.T, tail []byte, size int64) {
		list, err := pack.ParseTable(tail, size)
		if err != nil {
			if !errors.Is(err, pack.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again := pack.AppendTable(nil, list)
		if !bytes.Equal(again, tail[len(tail)-len(again):]) {
			t.Fatalf("%v does not survive a round trip", list)
		}
	})
}
