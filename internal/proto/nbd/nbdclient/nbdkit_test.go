package nbdclient

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// pattern is what nbdkit's pattern plugin holds.
func pattern(off int64, n int) []byte {
	b := make([]byte, (n+23)&^7)
	for i := 0; i < len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], uint64(off&^7)+uint64(i))
	}
	return b[off&7:][:n]
}

func TestReadsWhatNbdkitServes(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"plain", []string{"pattern", "9M"}},
		{"slow", []string{"--filter=delay", "pattern", "9M", "rdelay=20ms"}},
		{"without structured replies", []string{"--no-sr", "pattern", "9M"}},
		{"one connection at a time", []string{"--filter=limit", "pattern", "9M", "limit=1"}},
		{"many connections", []string{"--filter=multi-conn", "pattern", "9M", "multi-conn-mode=plugin"}},
		{"one thread", []string{"--filter=noparallel", "pattern", "9M"}},
		{"blocks of 4096", []string{
			"--filter=blocksize-policy", "pattern", "9M",
			"blocksize-minimum=4k", "blocksize-preferred=64k", "blocksize-maximum=128k", "blocksize-error-policy=error",
		}},
		{"blocks of 64 KiB", []string{
			"--filter=blocksize-policy", "pattern", "9M",
			"blocksize-minimum=64k", "blocksize-preferred=64k", "blocksize-maximum=64k", "blocksize-error-policy=error",
		}},
		{"exits with the last client", []string{"--filter=exitlast", "pattern", "9M"}},
		{"at a limited rate", []string{"--filter=rate", "pattern", "9M", "rate=800M"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im := open(t, kit(t, tc.args...), Options{Timeout: 20 * time.Second})
			if im.Size() != 9<<20 {
				t.Fatalf("size %d", im.Size())
			}
			for _, r := range []image.Range{{Offset: 0, Length: 9 << 20}, {Offset: 1, Length: 1}, {Offset: 4095, Length: 2}, {Offset: 70001, Length: 1234567}, {Offset: 9<<20 - 5, Length: 5}} {
				got := make([]byte, r.Length)
				if n, err := im.ReadAt(got, r.Offset); n != len(got) || err != nil {
					t.Fatalf("%+v: %d, %v", r, n, err)
				}
				if !bytes.Equal(got, pattern(r.Offset, len(got))) {
					t.Fatalf("%+v: wrong bytes", r)
				}
			}
		})
	}
}
