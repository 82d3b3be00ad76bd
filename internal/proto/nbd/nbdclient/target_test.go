package nbdclient

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func openTarget(t *testing.T, u nbd.URI, o Options) *Target {
	t.Helper()
	to, err := OpenTarget(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close() })
	return to
}

func TestTargetHoldsWhatIsWritten(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"plain", []string{"memory", "4M"}},
		{"without WRITE_ZEROES", []string{"--filter=nozero", "memory", "4M"}},
		{"without structured replies", []string{"--no-sr", "memory", "4M"}},
		{"every write durable", []string{"--filter=fua", "memory", "4M", "fuamode=force"}},
		{"blocks of 64 KiB", []string{
			"--filter=blocksize-policy", "memory", "4M",
			"blocksize-minimum=64k", "blocksize-preferred=64k", "blocksize-maximum=128k", "blocksize-error-policy=error",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const size = 4<<20 - 1234 // of the image: the export is larger
			to := openTarget(t, kit(t, tc.args...), Options{Size: size})
			if to.Size() != size || to.Export() != 4<<20 || to.Fresh() {
				t.Fatalf("size %d of %d, fresh %v", to.Size(), to.Export(), to.Fresh())
			}
			want := make([]byte, size)
			rnd := rand.New(rand.NewPCG(7, 7))
			var wg sync.WaitGroup
			for off := 0; off < size; { // neighbours share blocks and run at the same time
				n := min(1+rnd.IntN(100000), size-off)
				at, zero := off, rnd.IntN(3) == 0
				if !zero {
					for i := range want[at : at+n] {
						want[at+i] = byte(rnd.Uint32())
					}
				}
				wg.Go(func() {
					if zero {
						if err := to.Zero(int64(at), int64(n)); err != nil {
							t.Error(err)
						}
					} else if k, err := to.WriteAt(want[at:at+n], int64(at)); err != nil || k != n {
						t.Errorf("%d, %v", k, err)
					}
				})
				off += n
			}
			wg.Wait()
			got := make([]byte, size)
			if n, err := to.ReadAt(got, 0); n != size || err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d, %v, equal %v", n, err, bytes.Equal(got, want))
			}
			if err := to.Finish(); err != nil {
				t.Fatal(err)
			}
			if _, err := to.WriteAt(want[:1], 0); err == nil {
				t.Error("written after Finish")
			}
			for off := int64(0); off < size; {
				e, err := image.ExtentAt(to, off)
				if err != nil || e.End() > size {
					t.Fatalf("%+v, %v", e, err)
				}
				off = e.End()
			}
		})
	}
}

func TestExportThatDoesNotFitIsRefusedUntouched(t *testing.T) {
	for _, tc := range []struct {
		name, words string
		args        []string
	}{
		{"smaller", "at least as large", []string{"memory", "1M"}},
		{"read-only", "read-only", []string{"-r", "memory", "4M"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := OpenTarget(t.Context(), kit(t, tc.args...), Options{Size: 1<<20 + 1})
			if err == nil || !strings.Contains(err.Error(), tc.words) || !strings.Contains(err.Error(), "cannot restore onto nbd+unix") {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

func TestServersErrorsAreTheSystems(t *testing.T) {
	u := kit(t, "--filter=error", "memory", "4M", "error=EIO", "error-pread-rate=100%", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
	im := open(t, u, Options{})
	_, err := im.ReadAt(make([]byte, 4096), 0)
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	to := openTarget(t, u, Options{})
	if _, err = to.WriteAt(make([]byte, 4096), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v", err)
	}
	if err := open(t, kit(t, "memory", "1M"), Options{}).Trim(t.Context(), 1<<20, 1); err == nil {
		t.Error("trim behind the end")
	}
}

// A bad sector costs that sector alone.
func TestUnreadableSectorIsFoundByTheFilter(t *testing.T) {
	u := kit(t, "eval", "get_size=echo 1M", "thread_model=echo parallel",
		`pread=if [ $4 -le 70000 ] && [ $(($4+$3)) -gt 70000 ]; then echo EIO bad sector >&2; exit 1; fi; dd if=/dev/zero bs=1 count=0 status=none; head -c $3 /dev/zero`)
	im := open(t, u, Options{})
	bad, err := image.NewBadSectors(im, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := bad.ReadAt(make([]byte, 1<<20), 0); n != 1<<20 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if d := bad.Found(); len(d.Ranges) != 1 || d.Ranges[0] != (image.Range{Offset: 69632, Length: 4096}) {
		t.Errorf("found %+v", d)
	}
}
