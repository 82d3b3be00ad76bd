package provider

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

func TestRegionsAreSortedJoinedAndChecked(t *testing.T) {
	got, err := sortRegions([]Region{{8, 2}, {0, 3}, {3, 1}, {9, 4}, {13, 0}, {1, 1}}, 13)
	if err != nil || !slices.Equal(got, []Region{{0, 4}, {8, 5}}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []Region{{-1, 2}, {0, -1}, {12, 2}, {20, 0}, {1 << 62, 1 << 62}, {14, 0}} {
		if _, err := sortRegions([]Region{bad}, 13); !errors.Is(err, ErrUsage) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// What is in no region is unchanged, byte by byte.
func TestExtentsFollowTheRegions(t *testing.T) {
	const size = 200
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var want [size]bool
		regions := []Region{}
		for range rnd.IntN(6) {
			r := Region{rnd.Int64N(size), 0}
			r[1] = rnd.Int64N(size - r[0] + 1)
			regions = append(regions, r)
			for i := r[0]; i < r[0]+r[1]; i++ {
				want[i] = true
			}
		}
		d, err := openDevice(Disk{Path: path, Size: size, Mode: ModeReuse, Regions: regions})
		if err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < size; {
			e, err := d.ExtentAt(off)
			if err != nil || e.Offset != off || e.Length < 1 || e.End() > size {
				t.Fatalf("%v: extent %+v, %v", regions, e, err)
			}
			for i := off; i < e.End(); i++ {
				if want[i] != (e.Kind == image.Data) {
					t.Fatalf("%v: byte %d is %v", regions, i, e.Kind)
				}
			}
			off = e.End()
		}
		_ = d.Close()
	}
}

func TestDiskThatIsShorterThanAnnouncedIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDevice(Disk{Path: path, Size: 11}); err == nil {
		t.Error("no error")
	}
}
