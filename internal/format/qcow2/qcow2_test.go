package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// golden reads a file of hex digits with comments.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func TestHeadersOfQEMU(t *testing.T) {
	for _, tc := range []struct {
		name     string
		features int
		want     qcow2.Header
	}{
		{"v2.hex", 0, qcow2.Header{
			Version: 2, ClusterBits: 9, Size: 10 << 20, L1Entries: 320, L1Offset: 0x600,
			Refcounts: qcow2.RefcountTable{Offset: 0x200, Clusters: 1, Order: 4},
		}},
		{"v3-full.hex", 8, qcow2.Header{
			Version: 3, ClusterBits: 16, Size: 1 << 40, L1Entries: 4096, L1Offset: 0x30000, Compression: qcow2.Zstd,
			Incompatible: qcow2.IncompatCompression | qcow2.IncompatExtendedL2, BackingFile: "base.raw", BackingFormat: "raw",
			Refcounts: qcow2.RefcountTable{Offset: 0x10000, Clusters: 1, Order: 4},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, err := qcow2.Parse(golden(t, tc.name))
			if err != nil {
				t.Fatal(err)
			}
			if len(h.Features) < tc.features {
				t.Errorf("%d feature names, want %d or more", len(h.Features), tc.features)
			}
			h.Features = nil
			if !reflect.DeepEqual(h, tc.want) {
				t.Errorf("got  %+v\nwant %+v", h, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	be := binary.BigEndian
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
		is    error
	}{
		{"short header", func(b []byte) []byte { return b[:103] }, qcow2.ErrFormat},
		{"nothing", func(b []byte) []byte { return nil }, qcow2.ErrFormat},
		{"foreign magic", func(b []byte) []byte { b[0] ^= 1; return b }, qcow2.ErrFormat},
		{"version 4", func(b []byte) []byte { b[7] = 4; return b }, qcow2.ErrUnsupported},
		{"small clusters", func(b []byte) []byte { b[23] = 8; return b }, qcow2.ErrFormat},
		{"large clusters", func(b []byte) []byte { b[23] = 22; return b }, qcow2.ErrFormat},
		{"subclusters in small clusters", func(b []byte) []byte { b[23] = 13; be.PutUint64(b[24:], 4096); return b }, qcow2.ErrFormat},
		{"endless disk", func(b []byte) []byte { b[24] = 0xff; return b }, qcow2.ErrFormat},
		{"disk larger than its tables", func(b []byte) []byte { b[26]++; return b }, qcow2.ErrFormat},
		{"huge L1 table", func(b []byte) []byte { b[36] = 1; return b }, qcow2.ErrFormat},
		{"L1 table inside a cluster", func(b []byte) []byte { b[47] = 8; return b }, qcow2.ErrFormat},
		{"L1 table at negative offset", func(b []byte) []byte { b[40] = 0x80; return b }, qcow2.ErrFormat},
		{"no L1 table", func(b []byte) []byte { clear(b[40:48]); return b }, qcow2.ErrFormat},
		{"name outside the cluster", func(b []byte) []byte { be.PutUint64(b[8:], 1<<40); return b }, qcow2.ErrFormat},
		{"name inside the header", func(b []byte) []byte { be.PutUint64(b[8:], 20); return b }, qcow2.ErrFormat},
		{"long name", func(b []byte) []byte { be.PutUint32(b[16:], 1024); return b }, qcow2.ErrFormat},
		{"short v3 header", func(b []byte) []byte { b[103] = 96; return b }, qcow2.ErrFormat},
		{"long v3 header", func(b []byte) []byte { b[100] = 1; return b }, qcow2.ErrFormat},
		{"long extension", func(b []byte) []byte { be.PutUint32(b[116:], 1<<31); return b }, qcow2.ErrFormat},
		{"reference counts", func(b []byte) []byte { b[99] = 7; return b }, qcow2.ErrFormat},
		{"compression without its feature", func(b []byte) []byte { b[79] = 0x10; return b }, qcow2.ErrFormat},
		{"feature without compression", func(b []byte) []byte { b[104] = 0; return b }, qcow2.ErrFormat},
		{"unknown feature", func(b []byte) []byte { b[72] = 1; return b }, qcow2.ErrUnsupported},
		{"unknown encryption", func(b []byte) []byte { b[32] = 1; return b }, qcow2.ErrUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := qcow2.Parse(tc.spoil(golden(t, "v3-full.hex"))); !errors.Is(err, tc.is) {
				t.Fatalf("err = %v, want %v", err, tc.is)
			}
		})
	}
}

func TestEntries(t *testing.T) {
	plain := qcow2.Header{Version: 3, ClusterBits: 16}
	old := qcow2.Header{Version: 2, ClusterBits: 16}
	sub := qcow2.Header{Version: 3, ClusterBits: 16, Incompatible: qcow2.IncompatExtendedL2}
	data := qcow2.Header{Version: 3, ClusterBits: 16, Incompatible: qcow2.IncompatDataFile}
	large := qcow2.Header{Version: 3, ClusterBits: 21}
	bad := qcow2.Mapping{Host: -1}
	for _, tc := range []struct {
		name    string
		h       *qcow2.Header
		e, subs uint64
		unit    int
		want    qcow2.Mapping
	}{
		{"empty", &plain, 0, 0, 0, qcow2.Mapping{}},
		{"data", &plain, 1<<63 | 0x50000, 0, 0, qcow2.Mapping{Kind: qcow2.Data, Host: 0x50000}},
		{"shared with a snapshot", &plain, 0x50000, 0, 0, qcow2.Mapping{Kind: qcow2.Data, Host: 0x50000}},
		{"zero", &plain, 1, 0, 0, qcow2.Mapping{Kind: qcow2.Zero}},
		{"zero and allocated", &plain, 1<<63 | 0x50001, 0, 0, qcow2.Mapping{Kind: qcow2.Zero}},
		{"zero in version 2", &old, 1, 0, 0, bad},
		{"not at a cluster", &plain, 0x50200, 0, 0, bad},
		{"offset 0 of a data file", &data, 1 << 63, 0, 0, qcow2.Mapping{Kind: qcow2.Data}},
		{"nothing in a data file", &data, 0, 0, 0, qcow2.Mapping{}},
		{"compressed in a data file", &data, 1 << 62, 0, 0, bad},
		{"compressed", &plain, 1<<62 | 3<<54 | 0x12345, 0, 0, qcow2.Mapping{Kind: qcow2.Compressed, Host: 0x12345, Length: 4*512 - 0x145}},
		{"compressed, large", &large, 1<<62 | 3<<49 | 0x200, 0, 0, qcow2.Mapping{Kind: qcow2.Compressed, Host: 0x200, Length: 4 * 512}},
		{"compressed with subclusters", &sub, 1<<62 | 0x200, 0, 7, qcow2.Mapping{Kind: qcow2.Compressed, Host: 0x200, Length: 512}},
		{"subcluster data", &sub, 0x50000, 1 << 3, 3, qcow2.Mapping{Kind: qcow2.Data, Host: 0x50000 + 3*2048}},
		{"subcluster not allocated", &sub, 0x50000, 1 << 3, 4, qcow2.Mapping{}},
		{"subcluster zero", &sub, 0x50000, 1<<3 | 1<<63, 31, qcow2.Mapping{Kind: qcow2.Zero}},
		{"subcluster zero without cluster", &sub, 0, 1 << 32, 0, qcow2.Mapping{Kind: qcow2.Zero}},
		{"subcluster both", &sub, 0x50000, 1<<32 | 1, 0, bad},
		{"subcluster data without cluster", &sub, 0, 1, 0, bad},
	} {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], tc.e)
		binary.BigEndian.PutUint64(b[8:], tc.subs)
		got, err := tc.h.Map(b[:tc.h.L2EntrySize()], tc.unit)
		if tc.want == bad {
			if !errors.Is(err, qcow2.ErrFormat) {
				t.Errorf("%s: %+v, %v; want ErrFormat", tc.name, got, err)
			}
		} else if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v; want %+v", tc.name, got, err, tc.want)
		}
	}
}

// FuzzParse: what parses has tables that cover the disk and stay within their
// limits, and depends on nothing but the first cluster.
func FuzzParse(f *testing.F) {
	f.Add(golden(f, "v2.hex"))
	f.Add(golden(f, "v3-full.hex"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := qcow2.Parse(b)
		if err != nil {
			if !errors.Is(err, qcow2.ErrFormat) && !errors.Is(err, qcow2.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if h.L1Entries*8 > qcow2.MaxL1 || h.Size < 0 || h.L1Offset < 0 || len(h.BackingFile) > 1023 || len(h.Features)*48 > len(b) {
			t.Fatalf("%+v", h)
		}
		if span := h.Cluster() * h.L2Entries(); h.Size > 0 && (h.Size-1)/span >= h.L1Entries {
			t.Fatalf("tables do not cover the disk: %+v", h)
		}
		if h.Cluster()%h.Unit() != 0 || h.Unit() < 512 {
			t.Fatalf("unit %d of cluster %d", h.Unit(), h.Cluster())
		}
		again, err := h.Append(nil)
		if err != nil {
			return // more than a plain image
		}
		if got, err := qcow2.Parse(again); err != nil || !reflect.DeepEqual(got, plain(h)) {
			t.Fatalf("%+v does not survive a round trip: %+v, %v", h, got, err)
		}
	})
}

// plain leaves out what is not written: names for people, files that the feature
// bits do not ask for.
func plain(h qcow2.Header) qcow2.Header {
	h.Features, h.DataFile, h.Bitmaps = nil, "", qcow2.BitmapDirectory{}
	return h
}

func TestHeaderIsThatOfQEMU(t *testing.T) {
	want := golden(t, "v3-backing.hex")
	h, err := qcow2.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	h = plain(h)
	got, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	// QEMU lists names of feature bits behind the backing file's format; up to there
	// they agree but for the name's offset.
	const format = 112 + 16 // header, and the extension
	for _, at := range [][2]int{{0, 8}, {16, format}} {
		if !bytes.Equal(got[at[0]:at[1]], want[at[0]:at[1]]) {
			t.Errorf("bytes %d to %d: got %x, want %x", at[0], at[1], got[at[0]:at[1]], want[at[0]:at[1]])
		}
	}
}

func TestCompressedEntryIsReadAsWritten(t *testing.T) {
	for _, bits := range []uint32{9, 12, 16, 21} {
		h := qcow2.Header{Version: 3, ClusterBits: bits}
		for _, host := range []int64{512, 513, 1<<30 + 511, 1 << 38} {
			for _, n := range []int64{1, 2, 511, 512, 513, h.Cluster() - 512} {
				if n <= 0 {
					continue
				}
				var b [8]byte
				binary.BigEndian.PutUint64(b[:], h.CompressedEntry(host, n))
				m, err := h.Map(b[:], 0)
				if err != nil || m.Kind != qcow2.Compressed || m.Host != host || m.Length < n || m.Length >= n+512 {
					t.Fatalf("%d bytes at %d in clusters of %d: %+v, %v", n, host, h.Cluster(), m, err)
				}
			}
		}
	}
}

func TestHeaderIsNotWritten(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    qcow2.Header
	}{
		{"of version 2", qcow2.Header{Version: 2, ClusterBits: 16}},
		{"with subclusters", qcow2.Header{Version: 3, ClusterBits: 16, Incompatible: qcow2.IncompatExtendedL2}},
		{"of a method without its feature bit", qcow2.Header{Version: 3, ClusterBits: 16, Compression: qcow2.Zstd}},
		{"with internal snapshots", qcow2.Header{Version: 3, ClusterBits: 16, Snapshots: 1}},
		{"with a backing name of 1024 bytes", qcow2.Header{Version: 3, ClusterBits: 16, BackingFile: strings.Repeat("x", 1024)}},
		{"that its cluster does not hold", qcow2.Header{Version: 3, ClusterBits: 9, BackingFile: strings.Repeat("x", 500)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := tc.h
			if _, err := h.Append(nil); !errors.Is(err, qcow2.ErrUnsupported) && !errors.Is(err, qcow2.ErrFormat) {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

// FuzzMap: an entry that maps stays inside the range of offsets.
func FuzzMap(f *testing.F) {
	f.Add(uint64(1)<<62|3<<54|0x12345, uint64(0), uint8(16), uint8(0), uint64(0))
	f.Add(uint64(0x50000), uint64(1), uint8(16), uint8(0), uint64(16))
	f.Fuzz(func(t *testing.T, e, subs uint64, bits, unit uint8, incompatible uint64) {
		h := qcow2.Header{Version: 3, ClusterBits: 9 + uint32(bits%13), Incompatible: incompatible}
		if h.ClusterBits < 14 {
			h.Incompatible &^= qcow2.IncompatExtendedL2
		}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], e)
		binary.BigEndian.PutUint64(b[8:], subs)
		m, err := h.Map(b[:], int(unit)%int(h.Cluster()/h.Unit()))
		if err != nil {
			return
		}
		if m.Host < 0 || m.Host > 1<<56 || m.Length < 0 || m.Length > 2*h.Cluster()+1024 {
			t.Fatalf("%+v", m)
		}
		if m.Kind == qcow2.Compressed && m.Length == 0 {
			t.Fatalf("compressed to nothing: %+v", m)
		}
	})
}

func FuzzBitmaps(f *testing.F) {
	b := make([]byte, 32)
	binary.BigEndian.PutUint64(b, 1<<16)
	b[11], b[16], b[17], b[19] = 1, 1, 16, 6
	copy(b[24:], "backup")
	f.Add(b)
	h := qcow2.Header{Version: 3, ClusterBits: 16, Size: 1 << 30}
	if all, err := qcow2.ParseBitmaps(&h, b); err != nil || len(all) != 1 || all[0].Name != "backup" || all[0].Granularity != 1<<16 {
		f.Fatalf("%+v, %v", all, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := qcow2.ParseBitmaps(&h, b)
		if err != nil && !errors.Is(err, qcow2.ErrFormat) {
			t.Fatalf("error of no kind: %v", err)
		}
		if len(all)*24 > len(b) {
			t.Fatalf("%d bitmaps from %d bytes", len(all), len(b))
		}
	})
}
