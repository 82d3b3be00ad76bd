package nbdclient

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// extentsOf walks an image and joins what is of one kind.
func extentsOf(t *testing.T, img image.Image) string {
	t.Helper()
	var all []image.Extent
	for off := int64(0); off < img.Size(); {
		e, err := image.ExtentAt(img, off)
		if err != nil {
			t.Fatal(err)
		}
		if e.Offset != off || e.Length <= 0 || e.End() > img.Size() {
			t.Fatalf("extent at %d: %+v", off, e)
		}
		off = e.End()
		if n := len(all); n > 0 && all[n-1].Kind == e.Kind {
			all[n-1].Length += e.Length
		} else {
			all = append(all, e)
		}
	}
	s := ""
	for _, e := range all {
		s += fmt.Sprintf("%d+%d %s\n", e.Offset>>10, e.Length>>10, e.Kind)
	}
	return s
}

// dirtyDisk is a qcow2 image of 16 MiB with the bitmap "since", after which
// some was written, zeroed and discarded.
func dirtyDisk(t *testing.T) string {
	t.Helper()
	requireTools(t, "qemu-img", "qemu-io", "qemu-nbd")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "16M")
	tool(t, "qemu-io", "-c", "write -P 1 0 8M", disk)
	tool(t, "qemu-img", "bitmap", "--add", "-g", "64k", disk, "since")
	tool(t, "qemu-io", "-c", "write -P 2 1M 128k", "-c", "write -z -u 2M 1M", "-c", "discard 4M 64k", "-c", "write -P 3 12M 64k", disk)
	return disk
}

func TestDirtyBitmapTellsWhatChanged(t *testing.T) {
	disk := dirtyDisk(t)
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-r", "-f", "qcow2", "-B", "since", "-A", "--shared=8", "-k", socket, "-x", "vda", disk)
	u := nbd.URI{Socket: socket, Export: "vda"}

	im := open(t, u, Options{Contexts: []string{"qemu:"}})
	want := []string{"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:since"}
	if got := slices.Sorted(slices.Values(im.Contexts())); !slices.Equal(got, want) {
		t.Fatalf("contexts %q", got)
	}
	changed, err := im.ChangedBy("qemu:dirty-bitmap:since")
	if err != nil {
		t.Fatal(err)
	}
	const extents = "0+1024 unchanged\n1024+128 data\n1152+896 unchanged\n2048+1024 zero\n3072+1024 unchanged\n" +
		"4096+64 zero\n4160+8128 unchanged\n12288+64 data\n12352+4032 unchanged\n"
	if got := extentsOf(t, changed); got != extents {
		t.Errorf("changed:\n%swant\n%s", got, extents)
	}
	if got, want := extentsOf(t, im), "0+2048 data\n2048+1024 zero\n3072+1024 data\n4096+64 zero\n4160+4032 data\n8192+4096 zero\n12288+64 data\n12352+4032 zero\n"; got != want {
		t.Errorf("all:\n%swant\n%s", got, want)
	}
	var dirty string
	if err := im.Status(t.Context(), "qemu:dirty-bitmap:since", 1<<20, 4<<20, func(off, n int64, flags uint64) error {
		dirty += fmt.Sprintf("%d+%d %d\n", off>>10, n>>10, flags)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "1024+128 1\n1152+896 0\n2048+1024 1\n3072+1024 0\n4096+64 1\n4160+960 0\n"; dirty != want {
		t.Errorf("dirty:\n%swant\n%s", dirty, want)
	}
	if _, err := im.ChangedBy("base:allocation"); err == nil {
		t.Error("base:allocation is taken for a bitmap")
	}
	if _, err := Open(t.Context(), u, Options{Contexts: []string{"qemu:dirty-bitmap:other"}}); err == nil {
		t.Error("a bitmap that is not there is no error")
	}
}

func TestListShowsExportsWithTheirContexts(t *testing.T) {
	disk := dirtyDisk(t)
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-r", "-f", "qcow2", "-B", "since", "-k", socket, "-x", "vda", "-D", "the disk", disk)
	all, err := List(t.Context(), nbd.URI{Socket: socket}, Options{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	e := all[0]
	if e.Name != "vda" || e.Description != "the disk" || e.Size != 16<<20 || e.Flags&nbd.ReadOnly == 0 || e.Blocks.Maximum != 32<<20 {
		t.Errorf("%+v", e)
	}
	if !slices.Contains(e.Contexts, "qemu:dirty-bitmap:since") || !slices.Contains(e.Contexts, "base:allocation") {
		t.Errorf("contexts %q", e.Contexts)
	}
}

func TestAllocationDepthNamesTheLayer(t *testing.T) {
	requireTools(t, "qemu-img", "qemu-io", "qemu-nbd")
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "top.qcow2")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", base, "8M")
	tool(t, "qemu-io", "-c", "write -P 1 0 2M", base)
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
	tool(t, "qemu-io", "-c", "write -P 2 1M 2M", top)
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-r", "-f", "qcow2", "-A", "-k", socket, top)
	im := open(t, nbd.URI{Socket: socket}, Options{Contexts: []string{nbd.QEMUAllocationDepth}, NoAllocation: true})
	got := ""
	if err := im.Status(t.Context(), nbd.QEMUAllocationDepth, 0, im.Size(), func(off, n int64, flags uint64) error {
		got += fmt.Sprintf("%d+%d %d\n", off>>10, n>>10, flags)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "0+1024 2\n1024+2048 1\n3072+5120 0\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := extentsOf(t, im); got != "0+8192 data\n" {
		t.Errorf("without base:allocation: %s", got)
	}
}

func TestExtentsOfALargeDiskComeInPieces(t *testing.T) {
	requireTools(t, "qemu-img", "qemu-io", "qemu-nbd")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "20T")
	tool(t, "qemu-io", "-c", "write -P 1 17T 64k", "-c", "write -P 1 4398046445568 64k", disk)
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-r", "-f", "qcow2", "-k", socket, disk)
	im := open(t, nbd.URI{Socket: socket}, Options{})
	want := fmt.Sprintf("0+%d zero\n%d+64 data\n%d+%d zero\n%d+64 data\n%d+%d zero\n", int64(4398046445568)>>10, int64(4398046445568)>>10,
		int64(4398046511104)>>10, int64(17<<40-4398046511104)>>10, int64(17<<30), int64(17<<30+64), int64(3<<30-64))
	if got := extentsOf(t, im); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTrimGivesSpaceBack(t *testing.T) {
	requireTools(t, "qemu-img", "qemu-io", "qemu-nbd")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
	tool(t, "qemu-io", "-c", "write -P 1 0 8M", disk)
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-f", "qcow2", "--discard=unmap", "-k", socket, disk)
	im := open(t, nbd.URI{Socket: socket}, Options{})
	if err := im.Trim(t.Context(), 1<<20, 1<<20); err != nil {
		t.Fatal(err)
	}
	if got, want := extentsOf(t, im), "0+1024 data\n1024+1024 zero\n2048+6144 data\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestRestoreOntoQcow2(t *testing.T) {
	requireTools(t, "qemu-img", "qemu-nbd")
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.qcow2")
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
	socket := socketPath(t)
	daemon(t, socket, "qemu-nbd", "-t", "-f", "qcow2", "--shared=4", "--discard=unmap", "-k", socket, disk)
	to, err := OpenTarget(t.Context(), nbd.URI{Socket: socket}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	data := bytes.Repeat([]byte("holdfast"), 5<<20/8)
	if _, err := to.WriteAt(data, 123); err != nil {
		t.Fatal(err)
	}
	if err := to.Zero(1<<20, 2<<20); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8<<20)
	copy(want[123:], data)
	clear(want[1<<20 : 3<<20])
	got := make([]byte, 8<<20)
	if _, err := to.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v, equal %v", err, bytes.Equal(got, want))
	}
	if e, err := to.ExtentAt(1 << 20); err != nil || e.Kind != image.Zero {
		t.Errorf("%+v, %v", e, err)
	}
	if err := to.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(dir, "raw")
	tool(t, "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", disk, raw)
	compareFile(t, raw, want)
}
