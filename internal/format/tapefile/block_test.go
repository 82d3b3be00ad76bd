package tapefile_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

func block(h tapefile.BlockHeader, payload []byte) []byte {
	b := bytes.Repeat([]byte{0xee}, tapefile.BlockSize) // what an earlier use left
	h.Size = copy(b[tapefile.BlockHeaderSize:], payload)
	h.Put(b)
	return b
}

func TestBlockMagicIsDerivedFromItsName(t *testing.T) {
	want := sha256.Sum256([]byte("Proxmox Tape Block Header v1.0"))
	if got := block(tapefile.BlockHeader{Last: true}, nil)[:8]; !bytes.Equal(got, want[:8]) {
		t.Fatalf("magic %x, want %x", got, want[:8])
	}
}

func TestBlockComesBackAsItWasWritten(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    tapefile.BlockHeader
		size int
	}{
		{"full", tapefile.BlockHeader{Seq: 7}, tapefile.PayloadSize},
		{"short", tapefile.BlockHeader{Seq: 1<<32 - 1}, 1},
		{"last", tapefile.BlockHeader{Last: true}, 300},
		{"last and empty", tapefile.BlockHeader{Seq: 3, Last: true}, 0},
		{"given up", tapefile.BlockHeader{Seq: 3, Last: true, Incomplete: true}, 0x010203},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := bytes.Repeat([]byte{0x5a}, tc.size)
			b := block(tc.h, data)
			got, err := tapefile.ParseBlock(b)
			tc.h.Size = min(tc.size, tapefile.PayloadSize)
			if err != nil || got != tc.h {
				t.Fatalf("got %+v, %v; want %+v", got, err, tc.h)
			}
			rest := b[tapefile.BlockHeaderSize:]
			if !bytes.Equal(rest[:got.Size], data[:got.Size]) {
				t.Fatal("the payload changed")
			}
			if i := bytes.IndexByte(rest[got.Size:], 0xee); i >= 0 {
				t.Fatal("old bytes stay behind the payload")
			}
		})
	}
}

func TestParseBlockRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
		want  error
	}{
		{"a short block", func(b []byte) []byte { return b[:len(b)-1] }, tapefile.ErrMagic},
		{"a foreign block", func(b []byte) []byte { b[0] ^= 1; return b }, tapefile.ErrMagic},
		{"more than fits", func(b []byte) []byte { b[9], b[10], b[11] = 0xf1, 0xff, 0x03; return b }, tapefile.ErrFormat},
		{"an empty block that is not the last", func(b []byte) []byte { b[8], b[9] = 0, 0; return b }, tapefile.ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := tc.spoil(block(tapefile.BlockHeader{Last: true}, []byte("x")))
			if _, err := tapefile.ParseBlock(b); !errors.Is(err, tc.want) {
				t.Fatalf("err = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestUnknownFlagsAreIgnored(t *testing.T) {
	b := block(tapefile.BlockHeader{}, []byte("x"))
	b[8] = 0xfe // given up, but not the last
	h, err := tapefile.ParseBlock(b)
	if err != nil || h.Last || h.Incomplete {
		t.Fatalf("got %+v, %v", h, err)
	}
}
