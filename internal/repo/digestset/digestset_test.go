package digestset

import (
	"encoding/binary"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

func numbered(i int) digest.Digest {
	return digest.Of(binary.LittleEndian.AppendUint64(nil, uint64(i)))
}

func TestSetRemembersWhatFits(t *testing.T) {
	s := New(1 << 12)
	lost := 0
	for i := range 1 << 11 {
		s.Add(numbered(i))
	}
	for i := range 1 << 11 {
		if !s.Has(numbered(i)) {
			lost++
		}
	}
	if lost > 1<<11/25 { // about one in a hundred, by chance
		t.Fatalf("%d of %d digests forgotten in a table that is half full", lost, 1<<11)
	}
}

func TestSetForgetsRatherThanGrows(t *testing.T) {
	s := New(1 << 8)
	for i := range 1 << 14 {
		s.Add(numbered(i))
		if !s.Has(numbered(i)) {
			t.Fatalf("digest %d forgotten at once", i)
		}
	}
	if len(s.slots) > 1<<8 {
		t.Fatalf("%d slots, the limit is %d", len(s.slots), 1<<8)
	}
}

func TestSetInventsNothing(t *testing.T) {
	s := New(1 << 8)
	for i := range 1 << 10 {
		s.Add(numbered(i))
	}
	for i := range 1 << 10 {
		if s.Has(numbered(-1 - i)) {
			t.Fatalf("digest %d was never added", -1-i)
		}
	}
	if s.Has(digest.Digest{}) {
		t.Fatal("the zero digest names nothing and cannot be in a set")
	}
}

func TestSetTellsDigestsApartThatShareAPart(t *testing.T) {
	s := New(1 << 8)
	for i := range 100 {
		whole := numbered(i)
		for at := range digest.Size {
			torn := whole
			clear(torn[at:])
			s.Add(torn)
			torn = whole
			clear(torn[:at+1])
			s.Add(torn)
		}
		if s.Has(whole) {
			t.Fatal("a digest is taken for another that shares a part of it")
		}
	}
}
