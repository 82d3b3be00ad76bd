package extsort_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/bucket/extsort"
)

func TestRecordsComeInOrderWhateverFitsIntoMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, limit := range []int{1, 12, 100, 12 * 500, 12 * 1000, 1 << 20} {
		s := extsort.New(12, limit)
		var want [][]byte
		for range 1000 {
			rec := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, rng.Uint64N(300)), rng.Uint32N(2))
			want = append(want, rec)
			if err := s.Add(rec); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(want, bytes.Compare)
		for range 2 { // reading changes nothing
			var got [][]byte
			for rec, err := range s.All() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, bytes.Clone(rec))
			}
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("limit %d: %d records come in another order, or are others", limit, len(got))
			}
		}
		if s.Len() != 1000 {
			t.Errorf("limit %d: %d records", limit, s.Len())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMoreRecordsAfterReading(t *testing.T) {
	s := extsort.New(1, 2)
	defer s.Close()
	for _, b := range []byte{9, 3, 7, 1, 8, 2} {
		if err := s.Add([]byte{b}); err != nil {
			t.Fatal(err)
		}
		last := byte(0)
		for rec, err := range s.All() {
			if err != nil || rec[0] < last {
				t.Fatalf("%d behind %d, %v", rec[0], last, err)
			}
			last = rec[0]
		}
	}
}
