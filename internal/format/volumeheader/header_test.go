package volumeheader_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	vh "github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

var image1 = digest.Of([]byte("image1"))

func snapshot(t testing.TB, path string) names.Snapshot {
	t.Helper()
	s, err := names.ParseSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func record(t testing.TB) vh.Record {
	return vh.Record{
		State: vh.Complete, Size: 34359738368, Start: vh.Sector, Changed: 1_790_000_000, Digest: image1,
		Repository: "/mnt/backup", Snapshot: snapshot(t, "ns/a/ns/b/vm/100/2026-11-22T10:00:00Z"), Archive: "disk.img.fidx",
	}
}

// sector is a sector full of what was there before, with a header.
func sector(h vh.Header) []byte {
	b := bytes.Repeat([]byte{0xee}, vh.Size)
	h.Put(b)
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Virtlet writes for the image "image1" of its tests.
const virtlet = `26 3d be 52 ba 57 67 02 00 01 cc 29 2b 92 ce 7f
10 f2 e4 f7 27 ec df 4b 12 52 81 27 c5 1b 6d df
60 58 e2 13 67 46 03 19 0d 06`

func TestShortHeaderHasTheBytesOfVirtletAndLeavesTheRest(t *testing.T) {
	want := append(unhex(t, virtlet), bytes.Repeat([]byte{0xee}, vh.Size-vh.ShortSize)...)
	if diff := cmp.Diff(want, sector(vh.Short(image1))); diff != "" {
		t.Fatal(diff)
	}
	h, err := vh.Parse(want)
	if err != nil || h != vh.Short(image1) {
		t.Fatalf("%+v, %v", h, err)
	}
	if h.Version() != 1 || h.Start() != 512 || !h.Holds(image1) || h.Digest() != image1 {
		t.Errorf("%+v", h)
	}
}

func TestFullHeaderHasTheseBytes(t *testing.T) {
	want := unhex(t, virtlet+` 00 00 00 00 00 00
9c 08 32 6b ab 75 18 ef 00 02 02 00 00 00 00 00
00 00 00 08 00 00 00 00 00 00 00 00 00 00 02 00
00 00 00 00 6a b1 3b 80
cc 29 2b 92 ce 7f 10 f2 e4 f7 27 ec df 4b 12 52
81 27 c5 1b 6d df 60 58 e2 13 67 46 03 19 0d 06
00 0b `+hex.EncodeToString([]byte("/mnt/backup"))+`
00 25 `+hex.EncodeToString([]byte("ns/a/ns/b/vm/100/2026-11-22T10:00:00Z"))+`
00 0d `+hex.EncodeToString([]byte("disk.img.fidx")))
	want = append(want, make([]byte, vh.Size-len(want))...)
	got := sector(vh.Full(record(t)))
	copy(want[508:], got[508:]) // the checksum: see below
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if crc := hex.EncodeToString(got[508:]); crc != goldenCRC {
		t.Errorf("checksum %s", crc)
	}
	again, err := vh.Parse(want)
	if diff := cmp.Diff(vh.Full(record(t)), again); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// By another implementation of CRC-32C.
const goldenCRC = "c700dcbf"

func TestRecordMagicIsDerivedFromItsName(t *testing.T) {
	s := sha256.Sum256([]byte("Holdfast volume record v2.0"))
	if got := sector(vh.Full(record(t)))[48:56]; !bytes.Equal(got, s[:8]) {
		t.Errorf("%x", got)
	}
}

// Version 1 looks at 42 bytes. What it does with our headers must be safe.
func TestVersionOneSeesNoImageWhileTheVolumeIsFilled(t *testing.T) {
	r := record(t)
	r.State = vh.Filling
	b := sector(vh.Full(r))
	if !bytes.Equal(b[:10], unhex(t, virtlet)[:10]) || !bytes.Equal(b[10:42], make([]byte, 32)) {
		t.Errorf("%x", b[:42])
	}
	h, err := vh.Parse(b)
	if err != nil || h.Holds(image1) || h.Holds(digest.Digest{}) || h.Digest() != image1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestRecordIsVoidOnceVersionOneWroteItsHeader(t *testing.T) {
	for _, state := range []vh.State{vh.Filling, vh.Complete, vh.Used} {
		r := record(t)
		r.State = state
		b := sector(vh.Full(r))
		other := digest.Of([]byte("image2"))
		copy(b[10:], other[:]) // it writes 42 bytes, of which these are new
		h, err := vh.Parse(b)
		if err != nil || h != vh.Short(other) {
			t.Errorf("%s: %+v, %v", state, h, err)
		}
	}
}

func TestShortHeaderOverARecordTakesItAway(t *testing.T) {
	b := sector(vh.Full(record(t)))
	vh.Short(digest.Of([]byte("image2"))).Put(b)
	vh.Short(image1).Put(b) // the checksum of the old record would fit again
	if h, err := vh.Parse(b); err != nil || h != vh.Short(image1) {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestPayloadAtAnotherPlaceIsVersionTwo(t *testing.T) {
	r := record(t)
	r.Start = 1 << 20
	b := sector(vh.Full(r))
	if b[9] != 2 {
		t.Errorf("version %d: version 1 would take byte 512 for the payload", b[9])
	}
	h, err := vh.Parse(b)
	if err != nil || h.Start() != 1<<20 || h.Version() != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	b[9] = 1
	if h, err := vh.Parse(b); err != nil || h.Record != nil {
		t.Errorf("%+v, %v: the checksum does not fit", h, err)
	}
}

func TestNamesThatDoNotFitAreLeftOut(t *testing.T) {
	long := record(t)
	long.Repository = strings.Repeat("r", 400)
	h, err := vh.Parse(sector(vh.Full(long)))
	if err != nil || h.Record.Repository != "" || h.Record.Snapshot != long.Snapshot || h.Record.Archive != long.Archive {
		t.Errorf("long repository: %+v, %v", h.Record, err)
	}
	long = record(t)
	long.Snapshot.ID = strings.Repeat("i", 255)
	long.Archive = names.Archive(strings.Repeat("a", 200) + ".img.fidx")
	h, err = vh.Parse(sector(vh.Full(long)))
	if err != nil || h.Record.Named() || h.Record.Digest != image1 {
		t.Errorf("long names: %+v, %v", h.Record, err)
	}
}

func TestParseTellsForeignDamagedAndNewerApart(t *testing.T) {
	far := record(t)
	far.Start = 1 << 20
	for _, tc := range []struct {
		name  string
		bytes func() []byte
		want  error
	}{
		{"short sector", func() []byte { return sector(vh.Short(image1))[:511] }, vh.ErrNone},
		{"empty sector", func() []byte { return make([]byte, vh.Size) }, vh.ErrNone},
		{"other magic", func() []byte { b := sector(vh.Short(image1)); b[7] ^= 1; return b }, vh.ErrNone},
		{"version 0", func() []byte { b := sector(vh.Short(image1)); b[9] = 0; return b }, vh.ErrFormat},
		{"version 2 without a record", func() []byte { b := sector(vh.Short(image1)); b[9] = 2; return b }, vh.ErrFormat},
		{"version 2 with a damaged record", func() []byte { b := sector(vh.Full(far)); b[200] ^= 1; return b }, vh.ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if h, err := vh.Parse(tc.bytes()); !errors.Is(err, tc.want) {
				t.Fatalf("%+v, %v, want %v", h, err, tc.want)
			}
		})
	}
	b := sector(vh.Short(image1))
	b[8], b[9] = 1, 3
	_, err := vh.Parse(b)
	if v, ok := errors.AsType[*vh.VersionError](err); !ok || v.Version != 259 || v.What != "header" {
		t.Errorf("newer header: %v", err)
	}
	b = sector(vh.Full(record(t)))
	b[57] = 3
	reseal(b)
	_, err = vh.Parse(b)
	if v, ok := errors.AsType[*vh.VersionError](err); !ok || v.Version != 3 || v.What != "record" {
		t.Errorf("newer record: %v", err)
	}
}
