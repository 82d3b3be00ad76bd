package qcow2target_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// must runs a program of QEMU; without it the test is skipped, except in CI.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// create makes a file for a new image.
func create(t testing.TB, dir, name string) vfs.File {
	t.Helper()
	v, err := vfs.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	f, err := v.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// disk is a model of a disk that is written at the same time.
type disk struct {
	img *qcow2target.Image
	b   []byte
}

func (d *disk) write(t testing.TB, p []byte, off int64) {
	t.Helper()
	if n, err := d.img.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatal(n, err)
	}
	copy(d.b[off:], p)
}

func (d *disk) zero(t testing.TB, off, n int64) {
	t.Helper()
	if err := d.img.Zero(off, n); err != nil {
		t.Fatal(err)
	}
	clear(d.b[off : off+n])
}

// finish lets qemu-img judge the image and compare it with the model.
func (d *disk) finish(t *testing.T, path string) {
	t.Helper()
	if err := d.img.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := d.img.Close(); err != nil {
		t.Fatal(err)
	}
	out := must(t, "qemu-img", "check", "-f", "qcow2", path)
	if !strings.Contains(out, "No errors were found") {
		t.Fatalf("qemu-img check: %s", out)
	}
	raw := path + ".raw"
	if err := os.WriteFile(raw, d.b, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
	got, err := os.ReadFile(raw)
	if err != nil || !bytes.Equal(got, d.b) {
		t.Fatal("the model changed", err)
	}
}

// random fills a disk with writes and zeros in any order, from several
// goroutines, no two of which overlap.
func (d *disk) random(t *testing.T, seed uint64, changes int) {
	t.Helper()
	size := int64(len(d.b))
	r := rand.New(rand.NewPCG(seed, 7))
	// Cuts at any sector, some of them at clusters.
	cuts := map[int64]bool{0: true, size: true}
	for len(cuts) < changes {
		at := r.Int64N(size/512) * 512
		if r.IntN(2) == 0 {
			at &^= 1<<16 - 1
		}
		cuts[at] = true
	}
	type piece struct{ off, n int64 }
	var pieces []piece
	last := int64(0)
	for at := int64(512); at <= size; at += 512 {
		if cuts[at] {
			pieces = append(pieces, piece{last, at - last})
			last = at
		}
	}
	r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	work := make(chan piece)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for p := range work {
				b := bytes.Repeat([]byte{byte(p.off>>9) | 1}, int(p.n))
				switch (p.off>>9 + int64(seed)) % 5 {
				case 0: // left as it was
				case 1, 2:
					if err := d.img.Zero(p.off, p.n); err != nil {
						t.Error(err)
					}
					clear(d.b[p.off : p.off+p.n])
				default:
					if _, err := d.img.WriteAt(b, p.off); err != nil {
						t.Error(err)
					}
					copy(d.b[p.off:], b)
				}
			}
		})
	}
	for _, p := range pieces {
		work <- p
	}
	close(work)
	wg.Wait()
}

func TestImagesAreWholeForQEMU(t *testing.T) {
	for _, tc := range []struct {
		cluster, size int64
	}{
		{512, 300<<10 + 512},
		{4 << 10, 3<<20 + 1536},
		{64 << 10, 40 << 20},
		{64 << 10, 40<<20 + 512},
		{2 << 20, 9<<20 + 512},
	} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("cluster=%d,size=%d,compress=%v", tc.cluster, tc.size, compress), func(t *testing.T) {
				dir := t.TempDir()
				img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: tc.size, Cluster: tc.cluster, Compress: compress})
				if err != nil {
					t.Fatal(err)
				}
				d := &disk{img, make([]byte, tc.size)}
				d.random(t, uint64(tc.size), 60)
				d.finish(t, filepath.Join(dir, "a.qcow2"))
			})
		}
	}
}

func TestIncrementsReadThroughTheirChain(t *testing.T) {
	dir := t.TempDir()
	var content []byte
	backing := ""
	for n, size := range []int64{20 << 20, 20 << 20, 26<<20 + 512, 26<<20 + 512} { // the disk grew
		name := fmt.Sprintf("%d.qcow2", n)
		o := qcow2target.Options{Size: size, Cluster: 64 << 10, Compress: n%2 == 1}
		if backing != "" {
			below, err := qcow2.Open(filepath.Join(dir, backing), qcow2.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer below.Close()
			o.BackingName, o.Backing = backing, below
		}
		img, err := qcow2target.New(create(t, dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		if img.Fresh() != (backing == "") {
			t.Fatalf("Fresh() = %v with backing %q", img.Fresh(), backing)
		}
		d := &disk{img, append(content, make([]byte, size-int64(len(content)))...)}
		d.random(t, uint64(n+1), 80)
		d.finish(t, filepath.Join(dir, name))
		backing, content = name, d.b
	}
	img, err := qcow2.Open(filepath.Join(dir, backing), qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	got := make([]byte, img.Size())
	if _, err := img.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Fatal("our reader sees something else", err)
	}
}

// Many blocks of reference counts, with clusters of all kinds.
func TestCountsOfAMixtureAreRight(t *testing.T) {
	for _, cluster := range []int64{1024, 4 << 10} {
		t.Run(fmt.Sprint(cluster), func(t *testing.T) {
			dir := t.TempDir()
			size := 4000 * cluster
			img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: size, Cluster: cluster, Compress: true})
			if err != nil {
				t.Fatal(err)
			}
			d := &disk{img, make([]byte, size)}
			r := rand.New(rand.NewPCG(uint64(cluster), 1))
			noise := make([]byte, 300*cluster)
			for i := range noise {
				noise[i] = byte(r.Uint32())
			}
			for off := int64(0); off < size; {
				n := min((1+r.Int64N(300))*cluster, size-off)
				switch r.IntN(4) {
				case 0:
					d.write(t, noise[:n], off)
				case 1:
					d.zero(t, off, n)
				case 2: // some of it compresses
					p := bytes.Clone(noise[:n])
					for at := int64(0); at < n; at += 3 * cluster {
						clear(p[at : at+cluster*2/3])
					}
					d.write(t, p, off)
				default:
					d.write(t, bytes.Repeat([]byte("compress "), int(n)/9+1)[:n], off)
				}
				off += n
			}
			d.finish(t, filepath.Join(dir, "a.qcow2"))
		})
	}
}

// A cluster that compressed ones go to is left behind by many others, whose counts
// are written meanwhile.
func TestCompressedClustersFarApart(t *testing.T) {
	dir := t.TempDir()
	const cluster, between = 1024, 1500
	img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: 8 * (between + 1) * cluster, Cluster: cluster, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{img, make([]byte, img.Size())}
	noise := make([]byte, between*cluster)
	r := rand.New(rand.NewPCG(8, 9))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for n := range int64(8) {
		d.write(t, bytes.Repeat([]byte{byte(n + 1)}, cluster), n*(between+1)*cluster)
		d.write(t, noise, (n*(between+1)+1)*cluster)
	}
	d.finish(t, filepath.Join(dir, "a.qcow2"))
}

func TestCompressionTakesLess(t *testing.T) {
	dir := t.TempDir()
	img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: 64 << 20, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{img, make([]byte, 64<<20)}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), 4<<20/44+1)[:4<<20]
	for off := int64(0); off < 64<<20; off += 4 << 20 {
		d.write(t, text, off)
	}
	d.finish(t, filepath.Join(dir, "a.qcow2"))
	if n := img.Written(); n > 2<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestCompressedClusterIsNotWrittenTwice(t *testing.T) {
	for what, again := range map[string]func(*qcow2target.Image) error{
		"whole": func(i *qcow2target.Image) error { _, err := i.WriteAt(make([]byte, 128<<10), 0); return err },
		"part":  func(i *qcow2target.Image) error { _, err := i.WriteAt([]byte{1}, 65<<10); return err },
		"zeros": func(i *qcow2target.Image) error { return i.Zero(64<<10, 64<<10) },
	} {
		img, err := qcow2target.New(create(t, t.TempDir(), "a"), qcow2target.Options{Size: 1 << 20, Compress: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.WriteAt(bytes.Repeat([]byte{7}, 128<<10), 0); err != nil {
			t.Fatal(err)
		}
		if again(img) == nil || img.Finish() == nil {
			t.Errorf("%s: no error", what)
		}
		_ = img.Close()
	}
}

func TestZerosAndUnwrittenTakeNoSpace(t *testing.T) {
	dir := t.TempDir()
	const size = 100 << 30
	img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Zero(0, size); err != nil {
		t.Fatal(err)
	}
	if _, err := img.WriteAt([]byte{1}, size-1); err != nil {
		t.Fatal(err)
	}
	if err := img.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := img.Written(); got > 1<<20 {
		t.Fatalf("the file has %d bytes", got)
	}
	must(t, "qemu-img", "check", filepath.Join(dir, "a.qcow2"))
}

// More L2 tables than are kept, in an order that visits each of them again.
func TestTablesThatWereLetGoComeBack(t *testing.T) {
	dir := t.TempDir()
	const cluster, tables = 512, 20000
	const span = cluster * cluster / 8 // what a table maps
	img, err := qcow2target.New(create(t, dir, "a.qcow2"), qcow2target.Options{Size: tables * span, Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) {
		for n := range int64(tables) {
			if _, err := img.WriteAt(bytes.Repeat([]byte{byte(n)}, cluster), n*span+round*cluster); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := img.Finish(); err != nil {
		t.Fatal(err)
	}
	must(t, "qemu-img", "check", filepath.Join(dir, "a.qcow2"))
	got, err := qcow2.Open(filepath.Join(dir, "a.qcow2"), qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	b := make([]byte, 3*cluster)
	for n := range int64(tables) {
		if _, err := got.ReadAt(b, n*span); err != nil {
			t.Fatal(err)
		}
		if want := append(bytes.Repeat([]byte{byte(n)}, 2*cluster), make([]byte, cluster)...); !bytes.Equal(b, want) {
			t.Fatalf("table %d reads wrong", n)
		}
	}
}

// dying fails its n-th write or sync, and all after it.
type dying struct {
	vfs.File
	left int
}

var errDisk = errors.New("disk gone")

func (d *dying) tick() error {
	if d.left--; d.left < 0 {
		return errDisk
	}
	return nil
}

func (d *dying) WriteAt(p []byte, off int64) (int, error) {
	if err := d.tick(); err != nil {
		return 0, err
	}
	return d.File.WriteAt(p, off)
}

func (d *dying) Sync() error {
	if err := d.tick(); err != nil {
		return err
	}
	return d.File.Sync()
}

func TestFailedWriteNeverBecomesAnImage(t *testing.T) {
	finished := false
	for fail := 0; !finished; fail++ {
		dir := t.TempDir()
		img, err := qcow2target.New(&dying{create(t, dir, "a"), fail}, qcow2target.Options{Size: 3 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var first error
		for off := int64(0); off < 3<<20 && first == nil; off += 1 << 20 {
			_, first = img.WriteAt(make([]byte, 600<<10), off)
		}
		if err := img.Finish(); first == nil {
			first = err
		} else if !errors.Is(err, errDisk) {
			t.Fatalf("fail at %d: Finish after a failed write: %v", fail, err)
		}
		_ = img.Close()
		if finished = first == nil; finished {
			continue
		}
		if !errors.Is(first, errDisk) {
			t.Fatalf("fail at %d: %v", fail, first)
		}
		b, err := os.ReadFile(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		// Only what comes behind the header may be missing: the sync of it.
		if format.IsQcow2(b) {
			must(t, "qemu-img", "check", filepath.Join(dir, "a"))
		}
	}
}

func TestBackingThatCannotBeReadFailsTheWrite(t *testing.T) {
	img, err := qcow2target.New(create(t, t.TempDir(), "a"), qcow2target.Options{
		Size: 1 << 20, BackingName: "b.qcow2", Backing: broken{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.WriteAt([]byte{1}, 5); !errors.Is(err, errDisk) {
		t.Fatalf("err = %v", err)
	}
	if err := img.Finish(); !errors.Is(err, errDisk) {
		t.Fatalf("Finish: %v", err)
	}
}

type broken struct{}

func (broken) Size() int64                       { return 1 << 20 }
func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestNewRefuses(t *testing.T) {
	for _, o := range []qcow2target.Options{
		{Size: 1 << 20, Cluster: 1000},
		{Size: 1 << 20, Cluster: 256},
		{Size: 1 << 20, Cluster: 4 << 20},
		{Size: -1},
		{Size: 1 << 50, Cluster: 512},
		{Size: 1 << 20, BackingName: strings.Repeat("n", 1024), Backing: broken{}},
	} {
		if _, err := qcow2target.New(nil, o); !errors.Is(err, format.ErrUnsupported) {
			t.Errorf("%+v: err = %v", o, err)
		}
	}
}

func TestWritesBehindTheDiskAreRefused(t *testing.T) {
	img, err := qcow2target.New(create(t, t.TempDir(), "a"), qcow2target.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := img.WriteAt(make([]byte, 2), 1<<20-1); err == nil {
		t.Error("WriteAt")
	}
	if err := img.Zero(1<<20-1, 2); err == nil {
		t.Error("Zero")
	}
	if _, err := img.WriteAt(nil, -1); err == nil {
		t.Error("negative offset")
	}
}
