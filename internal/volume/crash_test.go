package volume

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// simulated is a device that can lose its power: a file of a simulated disk.
type simulated struct {
	vfs.File
	size int64
}

func (s *simulated) Size() int64 { return s.size }

func (s *simulated) Zero(off, n int64) error {
	_, err := s.WriteAt(make([]byte, n), off)
	return err
}

func newSimulated(t *testing.T, content []byte) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	p := d.Process()
	f, err := p.Create("dev", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), p.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t *testing.T, d *simdisk.Disk, size int64) *simulated {
	t.Helper()
	f, err := d.Process().OpenWrite("dev")
	if err != nil {
		t.Fatal(err)
	}
	return &simulated{f, size}
}

// The power fails before every single write and sync of a fill, and once more while
// the volume is filled again. A header must never promise what is not there, and in the
// end the volume must be whole without anybody's help.
func TestPowerCutAtAnyStepOfAFillIsSeenAndMended(t *testing.T) {
	m := repotest.New()
	image := content(1, imageSize)
	later := changed(2, image)
	a, b := save(t, m, 1, image), save(t, m, 2, later)
	volume := has(imageSize+3000, nil)
	mustFill(t, volume, a, FillOptions{})
	for _, tc := range []struct {
		name string
		have []byte
		opts FillOptions
	}{
		{"first fill", has(imageSize+3000, nil).b, FillOptions{}},
		{"refill", volume.b, FillOptions{}},
		{"refill over a base", volume.b, FillOptions{Restore: restore.Options{Base: a.Snapshot}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			promise := map[digest.Digest][]byte{mustDigest(t, a): image, mustDigest(t, b): later}
			begin := newSimulated(t, tc.have)
			size := int64(len(tc.have))
			for step := 0; ; step++ {
				d := begin.Clone()
				dev := open(t, d, size)
				d.StopAfter(step)
				_, err := fill(t, dev, b, tc.opts)
				if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
					t.Fatal(err)
				}
				for i, mode := range simdisk.Modes() {
					r := rng(uint64(step*10 + i))
					after := d.CrashAs(mode, r)
					keeps(t, open(t, after, size), promise, fmt.Sprint("step ", step, ", ", mode))
					// Once more, and at some other step.
					again := after.Clone()
					dev = open(t, again, size)
					again.StopAfter(r.IntN(step + 2))
					_, _ = fill(t, dev, b, FillOptions{})
					again = again.Crash(r)
					keeps(t, open(t, again, size), promise, fmt.Sprint("step ", step, " and again, ", mode))
					dev = open(t, again, size)
					mustFill(t, dev, b, FillOptions{})
					wantImage(t, dev, later)
				}
				if err == nil {
					if step < 10 {
						t.Fatalf("only %d steps", step)
					}
					return
				}
			}
		})
	}
}

// keeps holds a header to its promise.
func keeps(t *testing.T, d device, promise map[digest.Digest][]byte, when string) {
	t.Helper()
	sector, err := readSector(d)
	if err != nil {
		t.Fatal(err)
	}
	h, err := volumeheader.Parse(sector)
	if errors.Is(err, volumeheader.ErrNone) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for sum, image := range promise {
		if !h.Holds(sum) {
			continue
		}
		got := make([]byte, len(image))
		if _, err := d.ReadAt(got, h.Start()); err != nil || !bytes.Equal(got, image) {
			t.Fatalf("%s: the header says that the image is there, and it is not (%v)", when, err)
		}
	}
}
