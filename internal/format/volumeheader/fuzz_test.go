package volumeheader_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	vh "github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

// reseal makes the checksum fit, so that what it covers is looked at.
func reseal(b []byte) {
	binary.BigEndian.PutUint32(b[508:], crc32.Checksum(b[:508], crc32.MakeTable(crc32.Castagnoli)))
}

func TestEveryByteOfARecordIsChecked(t *testing.T) {
	want := vh.Full(record(t))
	good := sector(want)
	for i := range vh.Size {
		b := bytes.Clone(good)
		b[i] ^= 0x40
		h, err := vh.Parse(b)
		if err == nil && h.Record != nil {
			t.Errorf("byte %d: the record still counts", i)
		}
		if i >= 508 {
			continue
		}
		reseal(b)
		h, err = vh.Parse(b)
		if err != nil || h.Record == nil { // its magic is gone
			continue
		}
		again := bytes.Repeat([]byte{0xee}, vh.Size)
		if h.Put(again); !bytes.Equal(again, b) {
			t.Errorf("byte %d: parses, and is written in another way", i)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, state := range []vh.State{vh.Filling, vh.Complete, vh.Used} {
		r := record(f)
		r.State, r.Start = state, int64(state)<<20
		f.Add(sector(vh.Full(r)), false)
	}
	f.Add(sector(vh.Full(record(f))), true)
	f.Add(sector(vh.Short(image1)), false)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= vh.Size {
			reseal(b)
		}
		h, err := vh.Parse(b)
		if err != nil {
			_, version := errors.AsType[*vh.VersionError](err)
			if !version && !errors.Is(err, vh.ErrNone) && !errors.Is(err, vh.ErrFormat) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again := bytes.Clone(b[:vh.Size])
		h.Put(again)
		h2, err := vh.Parse(again)
		if err != nil || h2.Hash != h.Hash || (h2.Record == nil) != (h.Record == nil) || h.Record != nil && *h2.Record != *h.Record {
			t.Fatalf("%+v does not survive: %+v, %v", h, h2, err)
		}
		if h.Record != nil && !bytes.Equal(again, b[:vh.Size]) {
			t.Fatalf("%+v is written in another way", h)
		}
	})
}
