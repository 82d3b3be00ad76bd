package nbdclient

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
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
		{"without extents", []string{"--filter=noextents", "pattern", "9M"}},
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

func TestHolesOfASparseExportAreZerosAndTheRestIsData(t *testing.T) {
	im := open(t, kit(t, "data", "data=@0x100000 1 @0x500003 2", "size=9M"), Options{Timeout: 20 * time.Second})
	want := make([]byte, 9<<20)
	want[0x100000], want[0x500003] = 1, 2
	got := make([]byte, len(want))
	if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("wrong bytes, %v", err)
	}
	zeros := int64(0)
	for off := int64(0); off < im.Size(); {
		e, err := im.ExtentAt(off)
		if err != nil || e.Offset != off || e.Length < 1 {
			t.Fatalf("at %d: %+v, %v", off, e, err)
		}
		if e.Kind == image.Zero {
			zeros += e.Length
			if bytes.ContainsAny(want[off:e.End()], "\x01\x02") {
				t.Errorf("%+v is not zero", e)
			}
		}
		off = e.End()
	}
	if zeros < 8<<20 {
		t.Errorf("%d bytes are known to be zero, want nearly all", zeros)
	}
}

// Two clients see the same random disk of 1 GiB, most of which is holes.
func TestReadsASparseDiskAsNbdcopyDoes(t *testing.T) {
	requireTools(t, "nbdcopy")
	u := kit(t, "sparse-random", "1G", "seed=7")
	copied := t.TempDir() + "/copy"
	tool(t, "nbdcopy", u.String(), copied)
	f, err := os.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im := open(t, u, Options{Timeout: 20 * time.Second})
	data := int64(0)
	for off := int64(0); off < im.Size(); {
		e, err := im.ExtentAt(off)
		if err != nil {
			t.Fatal(err)
		}
		e.Length = min(e.Length, 8<<20)
		want, got := make([]byte, e.Length), make([]byte, e.Length)
		if _, err := f.ReadAt(want, off); err != nil {
			t.Fatal(err)
		}
		if e.Kind != image.Zero {
			data += e.Length
			if _, err := im.ReadAt(got, off); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrong bytes in %+v", e)
		}
		off = e.End()
	}
	if data == 0 || data > 512<<20 {
		t.Errorf("%d bytes are data", data)
	}
}

func TestOldstyleServerIsRefusedWithASentence(t *testing.T) {
	u := kit(t, "--oldstyle", "pattern", "1M")
	if im, err := Open(t.Context(), u, Options{Timeout: 10 * time.Second}); err == nil || !strings.Contains(err.Error(), "oldstyle") {
		if im != nil {
			_ = im.Close()
		}
		t.Errorf("got %v", err)
	}
}

func TestReadsOverTCPAndFindsTheServerAgainAfterItWasKilled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	serve := func() *exec.Cmd {
		cmd := exec.Command("nbdkit", "-f", "-i", "127.0.0.1", "-p", strconv.Itoa(port), "pattern", "9M")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
				_ = c.Close()
				return cmd
			}
		}
		t.Fatal("nbdkit does not listen")
		return nil
	}
	requireTools(t, "nbdkit")
	first := serve()
	im := open(t, nbd.URI{Host: "127.0.0.1", Port: uint16(port)}, Options{Timeout: 5 * time.Second, Patience: 30 * time.Second})
	got := make([]byte, 1<<20)
	for round := range 2 {
		if _, err := im.ReadAt(got, 12345); err != nil || !bytes.Equal(got, pattern(12345, len(got))) {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 0 {
			_ = first.Process.Kill()
			_ = first.Wait()
			second := serve()
			t.Cleanup(func() { _ = second.Process.Kill(); _ = second.Wait() })
		}
	}
}
