package qcow2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
)

// qemu skips a test on machines without QEMU's tools, except in CI.
func qemu(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// qio runs qemu-io commands on an image.
func qio(t *testing.T, path string, commands ...string) {
	t.Helper()
	args := []string{"-f", "qcow2"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.CommandContext(t.Context(), "qemu-io", append(args, path)...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("failed")) {
		t.Fatalf("qemu-io %q: %v\n%s", commands, err, out)
	}
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// mixed is a disk of text, noise, runs and zeros, of an odd number of sectors.
func mixed() []byte {
	b := make([]byte, 9*mib+3*512)
	r := rand.New(rand.NewPCG(3, 4))
	for off := 0; off < len(b); off += 96 * kib {
		part := b[off:min(off+96*kib, len(b))]
		switch r.IntN(4) {
		case 0:
			for i := range part {
				part[i] = "the quick brown fox jumps"[(i*i>>5+r.IntN(2))%25]
			}
		case 1:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 2:
			for i := range part {
				part[i] = byte(off >> 16)
			}
		}
	}
	return b
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// compare reads an image in every way and takes QEMU's word for its content.
func compare(t *testing.T, path string, opts qcow2.Options) {
	t.Helper()
	ref := filepath.Join(t.TempDir(), "reference")
	run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, ref)
	want, err := os.ReadFile(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := qcow2.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", img.Size(), len(want))
	}
	got := make([]byte, len(want)+1)
	if n, err := img.ReadAt(got, 0); n != len(want) || err != io.EOF { //nolint:errorlint // the contract is io.EOF itself
		t.Fatalf("read of all: %d, %v", n, err)
	}
	same(t, got[:len(want)], want, 0)

	var wg sync.WaitGroup
	for w := range uint64(3) { // concurrent, unaligned, of all lengths
		wg.Go(func() {
			r := rand.New(rand.NewPCG(5, w))
			p := make([]byte, 3*mib)
			for range 20 {
				off := r.Int64N(img.Size())
				n := min(int64(1+r.IntN(1<<r.IntN(21))), img.Size()-off)
				if _, err := img.ReadAt(p[:n], off); err != nil {
					t.Errorf("read %d at %d: %v", n, off, err)
					return
				}
				same(t, p[:n], want[off:off+n], off)
			}
		})
	}
	wg.Wait()

	zeros := int64(0)
	for off := int64(0); off < img.Size(); {
		e, err := img.ExtentAt(off)
		if err != nil || e.Offset != off || e.Length < 1 || e.End() > img.Size() {
			t.Fatalf("extent at %d: %v, %v", off, e, err)
		}
		if e.Kind == image.Zero {
			zeros += e.Length
			if at := bytes.IndexFunc(want[off:e.End()], func(r rune) bool { return r != 0 }); at >= 0 {
				t.Fatalf("extent %v is not zero at %d", e, off+int64(at))
			}
		}
		// Each offset within has to agree with the whole.
		if in, err := img.ExtentAt(off + e.Length/2); err != nil || in.Kind != e.Kind {
			t.Fatalf("extent %v has %v inside, %v", e, in, err)
		}
		off = e.End()
	}
	t.Logf("%d of %d bytes are known zeros", zeros, len(want))
}

func same(t *testing.T, got, want []byte, off int64) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("byte %d is %02x, want %02x", off+int64(i), got[i], want[i])
			return
		}
	}
}

// changes touches aligned and unaligned ranges in all ways.
var changes = []string{
	"write -P 0x11 70k 3k",
	"write -P 0x22 1M 700k",
	"write -z 1100k 300k",
	"write -P 0x33 1200k 512",
	"write -z -u 2M 1M",
	"write -P 0x44 2500k 5k",
	"discard 4M 1M",
	"write -P 0x55 4700k 100k",
	"write -P 0x66 9436672 512",
}

func TestEveryFeatureReadsAsQEMUReadsIt(t *testing.T) {
	qemu(t)
	src := write(t, filepath.Join(t.TempDir(), "src.raw"), mixed())
	type variant struct {
		opts       string
		compressed bool
	}
	var all []variant
	for _, cluster := range []string{"512", "4k", "64k", "2M"} {
		all = append(
			all,
			variant{"compat=0.10,cluster_size=" + cluster, false},
			variant{"compat=0.10,cluster_size=" + cluster, true},
			variant{"compat=1.1,cluster_size=" + cluster, false},
			variant{"compat=1.1,cluster_size=" + cluster, true},
			variant{"compat=1.1,compression_type=zstd,cluster_size=" + cluster, true},
		)
	}
	for _, cluster := range []string{"16k", "128k", "2M"} {
		all = append(
			all,
			variant{"extended_l2=on,cluster_size=" + cluster, false},
			variant{"extended_l2=on,cluster_size=" + cluster, true},
			variant{"extended_l2=on,compression_type=zstd,cluster_size=" + cluster, true},
			variant{"extended_l2=on,preallocation=metadata,cluster_size=" + cluster, false},
		)
	}
	for _, prealloc := range []string{"metadata", "falloc", "full"} {
		all = append(all, variant{"lazy_refcounts=on,preallocation=" + prealloc, false})
	}
	all = append(all, variant{"refcount_bits=1", false}, variant{"refcount_bits=64,lazy_refcounts=on", true})
	for _, v := range all {
		t.Run(fmt.Sprintf("%s,compressed=%v", v.opts, v.compressed), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "disk.qcow2")
			args := []string{"convert", "-f", "raw", "-O", "qcow2", "-o", v.opts}
			if v.compressed {
				args = append(args, "-c")
			}
			run(t, "qemu-img", append(args, src, path)...)
			compare(t, path, qcow2.Options{})
			if v.opts != "refcount_bits=1" {
				run(t, "qemu-img", "snapshot", "-c", "before", path)
			}
			qio(t, path, changes...)
			compare(t, path, qcow2.Options{})
			if strings.HasPrefix(v.opts, "compat=0.10") {
				return // QEMU does not resize these once they have a snapshot
			}
			run(t, "qemu-img", "resize", path, "12M")
			compare(t, path, qcow2.Options{})
		})
	}
}

func TestChainReadsAsQEMUReadsIt(t *testing.T) {
	qemu(t)
	for _, tc := range []struct {
		name, base, format, middle, top string
		compressed                      bool
	}{
		{"raw", "raw", "raw", "cluster_size=64k", "cluster_size=64k", false},
		{"raw, small clusters over large", "raw", "raw", "cluster_size=2M", "cluster_size=512", false},
		{"qcow2 compressed", "qcow2", "qcow2", "compat=0.10", "extended_l2=on", true},
		{"subclusters over subclusters", "qcow2", "qcow2", "extended_l2=on,cluster_size=16k", "extended_l2=on,cluster_size=2M", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			base := filepath.Join(dir, "base.img")
			src := write(t, filepath.Join(dir, "src.raw"), mixed())
			args := []string{"convert", "-f", "raw", "-O", tc.base}
			if tc.compressed {
				args = append(args, "-c")
			}
			run(t, "qemu-img", append(args, src, base)...)
			middle, top := filepath.Join(dir, "middle.qcow2"), filepath.Join(dir, "top.qcow2")
			// The overlay is larger than its base, and the next one smaller again.
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", tc.middle, "-b", "base.img", "-F", tc.format, middle, "14M")
			qio(t, middle, changes...)
			qio(t, middle, "write -P 0x77 11M 20k", "write -P 0x78 13M 20k")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", tc.top, "-b", middle, "-F", "qcow2", top, "12M")
			compare(t, top, qcow2.Options{})
			qio(t, top, "write -P 0x88 100k 1k", "write -z 1M 200k", "write -P 0x99 9M 2M", "write -z 8M 64k")
			compare(t, top, qcow2.Options{})
			compare(t, middle, qcow2.Options{})
			img, err := qcow2.Open(top, qcow2.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			if files := img.Files(); len(files) != 3 {
				t.Errorf("chain of %v", files)
			}
		})
	}
}

func TestHolesOfTheFilesBelowAreZeroExtents(t *testing.T) {
	qemu(t)
	dir := t.TempDir()
	base := write(t, filepath.Join(dir, "base.raw"), nil)
	if err := os.Truncate(base, 64*mib); err != nil {
		t.Fatal(err)
	}
	overlay, metadata := filepath.Join(dir, "overlay.qcow2"), filepath.Join(dir, "metadata.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", metadata, "64M")
	for _, path := range []string{overlay, metadata} {
		img, err := qcow2.Open(path, qcow2.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var data int64
		for off := int64(0); off < img.Size(); {
			e, err := image.ExtentAt(img, off)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind != image.Zero {
				data += e.Length
			}
			off = e.End()
		}
		if data > 0 {
			t.Errorf("%s: %d bytes of an empty disk are data", filepath.Base(path), data)
		}
		if err := img.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataFileReadsAsQEMUReadsIt(t *testing.T) {
	qemu(t)
	for name, opts := range map[string]string{
		"raw": "data_file_raw=on", "not raw": "data_file_raw=off", "subclusters": "extended_l2=on",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.qcow2")
			data := filepath.Join(t.TempDir(), "data.raw")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", opts+",data_file="+data, path, "10M")
			qio(t, path, "write -P 0xaa 0 64k") // the cluster at offset 0 of the data file
			qio(t, path, changes...)
			if _, err := qcow2.Open(path, qcow2.Options{}); !errors.Is(err, qcow2.ErrNotAllowed) {
				t.Errorf("data file elsewhere: %v", err)
			}
			compare(t, path, qcow2.Options{AllowDirs: []string{filepath.Dir(data)}})
		})
	}
}

func TestDirtyImageIsRead(t *testing.T) {
	qemu(t)
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "10M")
	// abort ends qemu-io as a crash does
	_ = exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write -P 0xab 1M 1M", "-c", "flush", "-c", "abort", path).Run()
	head, err := os.ReadFile(path)
	if err != nil || head[79]&1 == 0 {
		t.Fatalf("the image is not dirty (%v)", err)
	}
	img, err := qcow2.Open(path, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	p := make([]byte, mib)
	if _, err := img.ReadAt(p, mib); err != nil || p[0] != 0xab || p[mib-1] != 0xab {
		t.Errorf("%x, %v", p[0], err)
	}
}

func TestBitmapTellsWhatChanged(t *testing.T) {
	qemu(t)
	for _, opts := range []string{"cluster_size=64k", "cluster_size=512"} {
		t.Run(opts, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.qcow2")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", opts, path, "600M")
			qio(t, path, "write -P 1 0 1M")
			run(t, "qemu-img", "bitmap", "--add", "-g", "64k", path, "backup")
			qio(t, path, "write -P 2 100k 1k", "write -z 20M 128k", "write -P 3 599M 1M")
			img, err := qcow2.Open(path, qcow2.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			since, err := img.Since("backup")
			if err != nil {
				t.Fatal(err)
			}
			var changed []image.Extent
			for off := int64(0); off < since.Size(); {
				e, err := since.ExtentAt(off)
				if err != nil || e.Offset != off || e.Length < 1 {
					t.Fatalf("extent at %d: %v, %v", off, e, err)
				}
				if n := len(changed); e.Kind == image.Unchanged {
				} else if n > 0 && changed[n-1].End() == off && changed[n-1].Kind == e.Kind {
					changed[n-1].Length += e.Length
				} else {
					changed = append(changed, e)
				}
				off = e.End()
			}
			want := []image.Extent{
				{Offset: 64 * kib, Length: 64 * kib},
				{Offset: 20 * mib, Length: 128 * kib, Kind: image.Zero},
				{Offset: 599 * mib, Length: mib},
			}
			if fmt.Sprint(changed) != fmt.Sprint(want) {
				t.Errorf("changed %v, want %v", changed, want)
			}
			if _, err := img.Since("other"); err == nil {
				t.Error("a bitmap that is not there is used")
			}
		})
	}
}

func TestBitmapThatLacksChangesIsRefused(t *testing.T) {
	qemu(t)
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "top.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", base, "10M")
	for _, name := range []string{"spread", "stopped"} {
		run(t, "qemu-img", "bitmap", "--add", base, name)
	}
	qio(t, base, "write -P 1 0 64k")
	run(t, "qemu-img", "bitmap", "--disable", base, "stopped")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
	for _, name := range []string{"spread", "own"} {
		run(t, "qemu-img", "bitmap", "--add", top, name)
	}
	for _, tc := range []struct{ path, bitmap, want string }{
		{base, "stopped", "does not record"},
		{base, "other", "does not have it"},
		{top, "stopped", "does not have it"},
		{top, "spread", "a part of it is in " + base},
		{base, "spread", ""},
		{top, "own", ""},
	} {
		img, err := qcow2.Open(tc.path, qcow2.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = img.Since(tc.bitmap)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s of %s: %v", tc.bitmap, tc.path, err)
		case tc.want != "" && (!errors.Is(err, qcow2.ErrBitmap) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s of %s: err = %v, want %q", tc.bitmap, tc.path, err, tc.want)
		}
		if err := img.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInconsistentBitmapIsRefused(t *testing.T) {
	qemu(t)
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "10M")
	run(t, "qemu-img", "bitmap", "--add", path, "backup")
	_ = exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write 0 1M", "-c", "flush", "-c", "abort", path).Run()
	img, err := qcow2.Open(path, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	all, err := img.Bitmaps()
	if err != nil || len(all) != 1 || !all[0].InUse {
		t.Errorf("bitmaps %+v, %v", all, err)
	}
	if _, err := img.Since("backup"); err == nil || !strings.Contains(err.Error(), "not closed properly") {
		t.Errorf("err = %v", err)
	}
}
