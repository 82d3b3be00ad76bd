package overlay_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/overlay"
)

func meta() overlay.Meta {
	return overlay.Meta{
		Repository: "/srv/backup",
		Snapshot:   names.Snapshot{NS: "a/b", Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000},
		Archive:    "drive-scsi0.img.fidx",
		Size:       200_000_001,
		IndexSum:   digest.Of([]byte("index")),
		Created:    1_700_000_100,
	}
}

func TestMagicsAreDerivedFromTheirNames(t *testing.T) {
	for name, b := range map[string][]byte{
		"Holdfast overlay file v1.0":     meta().Append(nil),
		"Holdfast overlay map page v1.0": (&overlay.Page{}).Append(nil),
	} {
		if sum := sha256.Sum256([]byte(name)); !bytes.Equal(sum[:8], b[:8]) {
			t.Errorf("%s: magic %x, want %x", name, b[:8], sum[:8])
		}
	}
}

func TestHeaderSurvivesARoundTrip(t *testing.T) {
	root := meta()
	root.Snapshot.NS, root.Repository = names.Root, ""
	for _, m := range []overlay.Meta{meta(), root} {
		b := m.Append([]byte("before"))[6:]
		got, err := overlay.ParseHeader(b)
		if err != nil || got != m {
			t.Errorf("got %+v, %v\nwant %+v", got, err, m)
		}
	}
}

func TestHeaderRefuses(t *testing.T) {
	good := meta().Append(nil)
	for _, tc := range []struct {
		name, want string
		spoil      func([]byte) []byte
	}{
		{"a short file", "4095 bytes", func(b []byte) []byte { return b[:4095] }},
		{"a foreign magic", "magic", func(b []byte) []byte { b[0] ^= 1; return b }},
		{"a flipped bit", "checksum", func(b []byte) []byte { b[4000] ^= 1; return b }},
		{"zeros", "magic", func(b []byte) []byte { clear(b); return b }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := overlay.ParseHeader(tc.spoil(bytes.Clone(good)))
			if !errors.Is(err, overlay.ErrFormat) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("err = %v, want ErrFormat that says %q", err, tc.want)
			}
		})
	}
}

func TestValidateRefusesWhatDoesNotFit(t *testing.T) {
	for name, spoil := range map[string]func(*overlay.Meta){
		"no size":         func(m *overlay.Meta) { m.Size = 0 },
		"a huge size":     func(m *overlay.Meta) { m.Size = overlay.MaxSize + 1 },
		"a long name":     func(m *overlay.Meta) { m.Repository = strings.Repeat("x", 4000) },
		"broken text":     func(m *overlay.Meta) { m.Repository = "\xff" },
		"no snapshot":     func(m *overlay.Meta) { m.Snapshot = names.Snapshot{} },
		"a bad archive":   func(m *overlay.Meta) { m.Archive = "../x" },
		"a bad namespace": func(m *overlay.Meta) { m.Snapshot.NS = ".." },
	} {
		m := meta()
		spoil(&m)
		if err := m.Validate(); !errors.Is(err, overlay.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheFileHasRoomForEveryPage(t *testing.T) {
	for _, size := range []int64{1, 4096, 4097, overlay.PageBlocks * 4096, overlay.PageBlocks*4096 + 1, 16 << 40, overlay.MaxSize} {
		end := overlay.SlotOffset(overlay.Pages(size)-1, 1) + overlay.PageSize
		if at := overlay.DataOffset(size); end > at || at%(64<<10) != 0 {
			t.Errorf("size %d: the map ends at %d, the data begins at %d", size, end, at)
		}
		if overlay.Pages(size)*overlay.PageBlocks < overlay.Blocks(size) {
			t.Errorf("size %d: %d pages for %d blocks", size, overlay.Pages(size), overlay.Blocks(size))
		}
	}
}

func TestRunsAreThoseThatWereSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var p overlay.Page
	model := make([]overlay.State, overlay.PageBlocks)
	for range 300 {
		i := rng.IntN(overlay.PageBlocks)
		n := 1 + rng.IntN(min(overlay.PageBlocks-i, 1<<rng.IntN(15)))
		s := overlay.State(rng.IntN(3))
		p.Set(i, n, s)
		for j := i; j < i+n; j++ {
			model[j] = s
		}
		at := rng.IntN(overlay.PageBlocks)
		want := at
		for want < len(model) && model[want] == model[at] {
			want++
		}
		most := 1 + rng.IntN(overlay.PageBlocks-at)
		want = min(want, at+most)
		if s, n := p.Run(at, most); s != model[at] || n != want-at || p.State(at) != s {
			t.Fatalf("run at %d: %v × %d, want %v × %d", at, s, n, model[at], want-at)
		}
	}
}

// slots returns the two slots of a page after writes up to a sequence.
func slots(upTo uint64) (s [2][]byte) {
	s[0], s[1] = make([]byte, overlay.PageSize), make([]byte, overlay.PageSize)
	for seq := uint64(1); seq <= upTo; seq++ {
		p := overlay.Page{Index: 3, Sequence: seq}
		p.Set(int(seq), 1, overlay.Data)
		s[p.Slot()] = p.Append(nil)
	}
	return s
}

func TestTheNewestValidSlotHolds(t *testing.T) {
	const blocks = 4 * overlay.PageBlocks
	flip := func(slot int) func(s [2][]byte) { return func(s [2][]byte) { s[slot][2000] ^= 4 } }
	none := func([2][]byte) {}
	for _, tc := range []struct {
		name    string
		written uint64
		spoil   func(s [2][]byte)
		want    uint64
		damaged bool
	}{
		{"never written", 0, none, 0, false},
		{"written once", 1, none, 1, false},
		{"written twice", 2, none, 2, false},
		{"written often", 7, none, 7, false},
		{"the newest torn", 7, flip(1), 6, false},
		{"the older torn", 7, flip(0), 7, false},
		{"the only one torn", 1, flip(1), 0, false},
		{"both torn", 7, func(s [2][]byte) { flip(0)(s); flip(1)(s) }, 0, true},
		{"the second torn without a first", 2, func(s [2][]byte) { flip(0)(s); clear(s[1]) }, 0, true},
		{"slots exchanged", 7, func(s [2][]byte) {
			tmp := bytes.Clone(s[0])
			copy(s[0], s[1])
			copy(s[1], tmp)
		}, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := slots(tc.written)
			tc.spoil(s)
			p, err := overlay.ChoosePage(s, 3, blocks)
			if tc.damaged {
				if !errors.Is(err, overlay.ErrDamaged) {
					t.Fatalf("err = %v, want ErrDamaged", err)
				}
				return
			}
			if err != nil || p.Sequence != tc.want || tc.want > 0 && p.State(int(tc.want)) != overlay.Data {
				t.Fatalf("sequence %d, %v; want %d", p.Sequence, err, tc.want)
			}
		})
	}
}

func TestPagesOfAnotherPlaceAndStatesBehindTheEndAreRefused(t *testing.T) {
	s := slots(2)
	if _, err := overlay.ChoosePage(s, 2, 4*overlay.PageBlocks); !errors.Is(err, overlay.ErrDamaged) {
		t.Errorf("another page: %v", err)
	}
	if _, err := overlay.ChoosePage(s, 3, 3*overlay.PageBlocks+1); !errors.Is(err, overlay.ErrDamaged) {
		t.Errorf("behind the end: %v", err)
	}
	p := overlay.Page{Index: 3, Sequence: 1}
	p.Set(5, 1, 3)
	s[1], s[0] = p.Append(nil), p.Append(nil)
	if _, err := overlay.ChoosePage(s, 3, 4*overlay.PageBlocks); !errors.Is(err, overlay.ErrDamaged) {
		t.Errorf("illegal state: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(meta().Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := overlay.ParseHeader(b)
		if err != nil {
			if !errors.Is(err, overlay.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b[:overlay.HeaderSize]) {
			t.Fatalf("does not survive a round trip: %s", hex.EncodeToString(got[:200]))
		}
	})
}

func FuzzPage(f *testing.F) {
	for n := range uint64(4) {
		s := slots(n)
		f.Add(s[0], s[1], int64(3), int64(4*overlay.PageBlocks))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, index, blocks int64) {
		if len(a) != overlay.PageSize || len(b) != overlay.PageSize || index < 0 || blocks <= 0 || blocks > overlay.MaxSize/4096 || index >= overlay.Pages(blocks*4096) {
			return
		}
		p, err := overlay.ChoosePage([2][]byte{a, b}, index, blocks)
		if err != nil || p.Sequence == 0 {
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, [][]byte{a, b}[p.Slot()]) {
			t.Fatal("does not survive a round trip")
		}
	})
}
