package overlay_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/digest"
	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
)

func TestReadsWritesAndZerosFollowAModelInMemory(t *testing.T) {
	for _, size := range []int64{1, 511, 4096, 4097, 70_000, 300_001} {
		base := &made{size: size}
		want := readAll(t, base)
		ov := fresh(t, base, overlay.Options{})
		r := rng(uint64(size))
		for range 400 {
			off := r.Int64N(size)
			n := min(1+r.Int64N(1+int64(1)<<r.IntN(17)), size-off)
			part := want[off : off+n]
			switch r.IntN(4) {
			case 0, 1:
				for i := range part {
					part[i] = byte(r.Uint32())
				}
				if k, err := ov.WriteAt(part, off); err != nil || k != len(part) {
					t.Fatalf("write: %d, %v", k, err)
				}
			case 2:
				clear(part)
				if err := ov.Zero(off, n); err != nil {
					t.Fatal(err)
				}
			case 3:
				got := make([]byte, n)
				if k, err := ov.ReadAt(got, off); k != int(n) || err != nil || !bytes.Equal(got, part) {
					t.Fatalf("read [%d,+%d) of %d: %d, %v", off, n, size, k, err)
				}
			}
		}
		if !bytes.Equal(readAll(t, ov), want) {
			t.Fatalf("size %d: content differs", size)
		}
		wantExtents(t, ov, want)
		path := ov.Path()
		if err := ov.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := overlay.Open(path, base, meta(size), overlay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readAll(t, again), want) {
			t.Fatalf("size %d: content differs after reopening", size)
		}
		if err := again.Remove(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("after Remove: %v", err)
		}
	}
}

func TestReadAtTheEndIsShortAndEOF(t *testing.T) {
	ov := fresh(t, &made{size: 5000}, overlay.Options{})
	if _, err := ov.WriteAt([]byte("end"), 4997); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := ov.ReadAt(b, 4997); n != 3 || err != io.EOF || string(b[:3]) != "end" {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := ov.ReadAt(b, 5000); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func TestNothingIsWrittenOutsideTheImage(t *testing.T) {
	ov := fresh(t, &made{size: 5000}, overlay.Options{})
	for _, r := range [][2]int64{{-1, 2}, {4999, 2}, {5001, 0}, {1 << 62, 1 << 62}, {0, -1}} {
		if r[1] >= 0 && r[1] < 100 {
			if _, err := ov.WriteAt(make([]byte, r[1]), r[0]); err == nil {
				t.Errorf("write %v passed", r)
			}
		}
		if ov.Zero(r[0], r[1]) == nil || ov.Discard(r[0], r[1]) == nil {
			t.Errorf("zero or discard %v passed", r)
		}
	}
	if err := ov.Zero(5000, 0); err != nil {
		t.Error(err)
	}
}

func TestSmallWritesReadOneBlockAndWholeOnesNothing(t *testing.T) {
	base := &made{size: 1 << 20}
	ov := fresh(t, base, overlay.Options{})
	for _, tc := range []struct{ off, n, reads int64 }{
		{0, 4096, 0}, {8192, 65536, 0}, {100 << 10, 512, 1}, {100<<10 + 512, 512, 0}, {200<<10 + 100, 8192, 2}, {200 << 10, 100, 0},
	} {
		base.reads.Store(0)
		if _, err := ov.WriteAt(make([]byte, tc.n), tc.off); err != nil {
			t.Fatal(err)
		}
		if got := base.reads.Load(); got != tc.reads {
			t.Errorf("a write of %d at %d read %d times below, want %d", tc.n, tc.off, got, tc.reads)
		}
	}
}

func TestChangesAreListedInOrderAndMerged(t *testing.T) {
	const size = 3 * pageSpan
	ov := fresh(t, &made{size: size}, overlay.Options{})
	write := func(off, n int64) {
		t.Helper()
		if _, err := ov.WriteAt(make([]byte, n), off); err != nil {
			t.Fatal(err)
		}
	}
	changed := func() (all []image.Extent) {
		t.Helper()
		for e, err := range ov.Changed() {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		return all
	}
	if got := changed(); got != nil {
		t.Fatalf("a new overlay has changes: %v", got)
	}
	write(pageSpan-8192, 16384) // across two map pages
	write(10000, 1)
	if err := ov.Zero(pageSpan+8192, 4096); err != nil {
		t.Fatal(err)
	}
	if err := ov.Zero(size-4096, 4096); err != nil {
		t.Fatal(err)
	}
	want := []image.Extent{
		{Offset: 8192, Length: 4096, Kind: image.Data},
		{Offset: pageSpan - 8192, Length: 16384, Kind: image.Data},
		{Offset: pageSpan + 8192, Length: 4096, Kind: image.Zero},
		{Offset: size - 4096, Length: 4096, Kind: image.Zero},
	}
	if got := changed(); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if e, err := ov.ExtentAt(pageSpan + 12288); err != nil || e.End() != size-4096 {
		t.Errorf("the untouched run across pages is %+v, %v", e, err)
	}
}

func TestDiscardTakesWholeBlocksOnlyAndReleasesSpace(t *testing.T) {
	ov := fresh(t, &made{size: 8 << 20}, overlay.Options{})
	full := bytes.Repeat([]byte{7}, 4<<20)
	if _, err := ov.WriteAt(full, 0); err != nil {
		t.Fatal(err)
	}
	before := allocated(t, ov.Path())
	if err := ov.Discard(100, 4<<20-200); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4<<20)
	if _, err := ov.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:4096], full[:4096]) || !bytes.Equal(got[4<<20-4096:], full[:4096]) {
		t.Error("a block that was only touched has changed")
	}
	if e, err := ov.ExtentAt(4096); err != nil || e != (image.Extent{Offset: 4096, Length: 4<<20 - 8192, Kind: image.Zero}) {
		t.Errorf("%+v, %v", e, err)
	}
	if runtime.GOOS != "linux" {
		return // nowhere else is space released
	}
	if after := allocated(t, ov.Path()); after > before-(3<<20) {
		t.Errorf("%d bytes of space before, %d after", before, after)
	}
}

func TestAnOverlayOfAHugeImageIsSmall(t *testing.T) {
	const size = 8 << 40
	base := &made{size: size}
	ov := fresh(t, base, overlay.Options{MapPages: 8})
	r := rng(1)
	for range 300 {
		if _, err := ov.WriteAt([]byte("x"), r.Int64N(size)); err != nil {
			t.Fatal(err)
		}
		if n := ov.CachedPages(); n > 9 {
			t.Fatalf("%d map pages in memory", n)
		}
	}
	n := 0
	for e, err := range ov.Changed() {
		if err != nil || e.Kind != image.Data {
			t.Fatal(e, err)
		}
		n++
	}
	if n != 300 {
		t.Errorf("%d changes, want 300", n)
	}
	if runtime.GOOS == "linux" && allocated(t, ov.Path()) > 300*5*4096 {
		t.Errorf("%d bytes of space for 300 blocks", allocated(t, ov.Path()))
	}
}

func TestOneProcessAtATimeHasItOpen(t *testing.T) {
	base := &made{size: 1 << 20}
	ov := fresh(t, base, overlay.Options{})
	if _, err := overlay.Open(ov.Path(), base, meta(base.size), overlay.Options{}); !errors.Is(err, overlay.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := overlay.Remove(ov.Path()); !errors.Is(err, overlay.ErrInUse) {
		t.Errorf("removed while in use: %v", err)
	}
	if _, err := overlay.Create(ov.Path(), base, meta(base.size), overlay.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created over it: %v", err)
	}
	if m, err := overlay.ReadMeta(ov.Path()); err != nil || m != meta(base.size) {
		t.Errorf("meta while in use: %+v, %v", m, err)
	}
	if used, err := overlay.InUse(ov.Path()); !used || err != nil {
		t.Errorf("in use: %v, %v", used, err)
	}
	if err := ov.Close(); err != nil {
		t.Fatal(err)
	}
	if used, err := overlay.InUse(ov.Path()); used || err != nil {
		t.Errorf("in use after Close: %v, %v", used, err)
	}
	if err := overlay.Remove(ov.Path()); err != nil {
		t.Error(err)
	}
}

func TestAnotherImageBelowIsRefused(t *testing.T) {
	base := &made{size: 1 << 20}
	ov := fresh(t, base, overlay.Options{})
	path := ov.Path()
	if err := ov.Close(); err != nil {
		t.Fatal(err)
	}
	other := meta(base.size)
	other.IndexSum = digest.Of([]byte("other"))
	other.Snapshot.ID = "200"
	_, err := overlay.Open(path, base, other, overlay.Options{})
	if !errors.Is(err, overlay.ErrOtherBase) || !strings.Contains(err.Error(), "vm/100/") || !strings.Contains(err.Error(), "vm/200/") {
		t.Errorf("err = %v", err)
	}
	small := &made{size: 4096}
	if _, err := overlay.Open(path, small, meta(4096), overlay.Options{}); !errors.Is(err, overlay.ErrOtherBase) {
		t.Errorf("another size: %v", err)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	text := bytes.Repeat([]byte("a disk"), 1000)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := overlay.Open(path, &made{size: 4096}, meta(4096), overlay.Options{}); !errors.Is(err, overlay.ErrFormat) {
		t.Errorf("open: %v", err)
	}
	if err := overlay.Remove(path); !errors.Is(err, overlay.ErrFormat) {
		t.Errorf("remove: %v", err)
	}
	if _, err := overlay.Create(path, &made{size: 4096}, meta(4096), overlay.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, text) {
		t.Errorf("the file has changed, %v", err)
	}
	if _, err := overlay.ReadMeta(t.TempDir()); !errors.Is(err, overlay.ErrFormat) {
		t.Errorf("a directory: %v", err)
	}
}

func TestDamagedMapIsAnErrorAndNotOldData(t *testing.T) {
	base := &made{size: 1 << 20}
	ov := fresh(t, base, overlay.Options{})
	for range 2 {
		if _, err := ov.WriteAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		if err := ov.Zero(8192, 4096); err != nil {
			t.Fatal(err)
		}
		if err := ov.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := ov.Zero(0, 4096); err != nil {
			t.Fatal(err)
		}
	}
	path := ov.Path()
	if err := ov.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		if _, err := f.WriteAt([]byte("rotten"), format.SlotOffset(0, slot)+100); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ov, err = overlay.Open(path, base, meta(base.size), overlay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ov.Close() }()
	if _, err := ov.ReadAt(make([]byte, 1), 0); !errors.Is(err, overlay.ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	if _, err := ov.WriteAt(make([]byte, 1), 0); !errors.Is(err, overlay.ErrDamaged) {
		t.Errorf("write: %v", err)
	}
	for _, err := range ov.Changed() {
		if !errors.Is(err, overlay.ErrDamaged) {
			t.Errorf("changed: %v", err)
		}
	}
}

func TestAfterCloseEverythingFails(t *testing.T) {
	ov := fresh(t, &made{size: 1 << 20}, overlay.Options{})
	if err := ov.Close(); err != nil {
		t.Fatal(err)
	}
	_, werr := ov.WriteAt([]byte{1}, 0)
	_, rerr := ov.ReadAt([]byte{1}, 0)
	_, xerr := ov.ExtentAt(0)
	for _, err := range []error{werr, rerr, xerr, ov.Flush(), ov.Zero(0, 1), ov.Discard(0, 1), ov.Close(), ov.Remove()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("err = %v, want ErrClosed", err)
		}
	}
}

// TestManyWritersAndReadersKeepTheirBytes gives each of many goroutines bytes
// of its own, all in the same blocks, and lets them write, zero, read and
// flush at once.
func TestManyWritersAndReadersKeepTheirBytes(t *testing.T) {
	const (
		size    = 2*pageSpan + 9*block
		workers = 8
		lane    = 96 // bytes; borders of lanes lie anywhere in sectors and blocks
		lanes   = 400
	)
	starts := []int64{0, pageSpan - 5*block, size - workers*lane*lanes}
	base := &made{size: size}
	ov := fresh(t, base, overlay.Options{MapPages: 4})
	whole := make([][]byte, len(starts))
	for i, s := range starts {
		whole[i] = make([]byte, workers*lane*lanes)
		if _, err := base.ReadAt(whole[i], s); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rng(uint64(w))
			for range 600 {
				i, l := r.IntN(len(starts)), r.IntN(lanes)
				at := (l*workers + w) * lane
				mine := whole[i][at : at+lane]
				off := starts[i] + int64(at)
				var err error
				switch r.IntN(8) {
				case 0:
					clear(mine)
					err = ov.Zero(off, lane)
				case 1:
					err = ov.Flush()
				case 2, 3:
					got := make([]byte, lane)
					if _, err = ov.ReadAt(got, off); err == nil && !bytes.Equal(got, mine) {
						t.Errorf("worker %d: bytes at %d are not what it wrote", w, off)
						return
					}
				default:
					for k := range mine {
						mine[k] = byte(r.Uint32())
					}
					_, err = ov.WriteAt(mine, off)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, s := range starts {
		got := make([]byte, len(whole[i]))
		if _, err := ov.ReadAt(got, s); err != nil && err != io.EOF || !bytes.Equal(got, whole[i]) {
			t.Fatalf("region %d differs, %v", i, err)
		}
	}
}

func TestFlushesThatWaitAreDoneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &made{size: 1 << 20}
		disk := newCounting(t)
		ov, err := overlay.CreateOn(disk, "ov", base, meta(base.size), overlay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		disk.syncs.Store(0)
		disk.gate = make(chan struct{})
		var wg sync.WaitGroup
		flush := func(i int64) {
			wg.Go(func() {
				_, err := ov.WriteAt([]byte{1}, i*4096)
				if err = errors.Join(err, ov.Flush()); err != nil {
					t.Error(err)
				}
			})
		}
		flush(0)
		synctest.Wait() // the first waits in its first sync
		for i := range int64(60) {
			flush(i)
		}
		synctest.Wait() // all others for the second
		close(disk.gate)
		wg.Wait()
		if n := disk.syncs.Load(); n != 4 {
			t.Errorf("%d syncs, want 2 flushes of 2", n)
		}
		if err := ov.Flush(); err != nil || disk.syncs.Load() != 4 {
			t.Errorf("a flush of nothing: %v, %d syncs", err, disk.syncs.Load()-4)
		}
		if err := ov.Close(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	good := func(size int64, change func(*overlay.Overlay)) []byte {
		ov := fresh(f, &made{size: size}, overlay.Options{})
		change(ov)
		if err := ov.Close(); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(ov.Path())
		if err != nil {
			f.Fatal(err)
		}
		return b[:format.HeaderSize+4*format.PageSize]
	}
	f.Add(good(10_000, func(*overlay.Overlay) {}), uint32(0))
	f.Add(good(10_000, func(ov *overlay.Overlay) { _, _ = ov.WriteAt([]byte("x"), 5000) }), uint32(64<<10+3*4096))
	f.Fuzz(func(t *testing.T, b []byte, size uint32) {
		path := filepath.Join(t.TempDir(), "ov")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			if err := os.Truncate(path, int64(size)); err != nil {
				t.Fatal(err)
			}
		}
		m, err := overlay.ReadMeta(path)
		if err != nil {
			if !errors.Is(err, overlay.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
			return
		}
		ov, err := overlay.Open(path, &made{size: m.Size}, m, overlay.Options{})
		if err != nil {
			t.Fatalf("meta is good, open: %v", err)
		}
		defer func() { _ = ov.Close() }()
		for e, err := range ov.Changed() {
			if err != nil {
				if !errors.Is(err, overlay.ErrDamaged) {
					t.Fatalf("err = %v, want ErrDamaged", err)
				}
				return
			}
			if e.Length <= 0 || e.End() > m.Size {
				t.Fatalf("extent %+v of %d bytes", e, m.Size)
			}
		}
		_, _ = ov.ReadAt(make([]byte, 1<<16), 0)
	})
}
