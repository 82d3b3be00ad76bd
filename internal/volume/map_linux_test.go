package volume

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"golang.org/x/sys/unix"
)

// needMapper skips outside of the machine that is for these tests: the
// device-mapper of the host is not ours to play with.
func needMapper(t *testing.T) {
	t.Helper()
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		t.Skip("runs in a machine of its own, see test/guest")
	}
	if _, _, err := List(""); err != nil {
		t.Fatal(err)
	}
}

// dmsetup is the independent view.
func dmsetup(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dmsetup", append(args, "--noudevsync")...).CombinedOutput()
	if err != nil {
		t.Fatalf("dmsetup %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func mapIt(t *testing.T, path, name string, o MapOptions) Mapping {
	t.Helper()
	o.Now = someday
	m, err := Map(t.Context(), path, DefaultPrefix+name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := Unmap(context.Background(), m.Name, UnmapOptions{}); err != nil && !errors.Is(err, ErrNotMapped) {
			t.Error(err)
		}
	})
	return m
}

func unmapIt(t *testing.T, which string) {
	t.Helper()
	if _, err := Unmap(t.Context(), which, UnmapOptions{}); err != nil {
		t.Fatal(err)
	}
}

// filledVolume is a loop device with an image.
func filledVolume(t *testing.T, o FillOptions) (path string, s Source, image []byte) {
	t.Helper()
	path = loopDevice(t, devSize, loop.Options{})
	image = content(1, 512<<10)
	s = save(t, repotest.New(), 1, image)
	if _, err := Fill(t.Context(), path, s, one(o)); err != nil {
		t.Fatal(err)
	}
	return path, s, image
}

func number(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return devText(uint64(st.Rdev))
}

func state(t *testing.T, path string) volumeheader.State {
	t.Helper()
	i, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return i.Header.Record.State
}

func TestLiveMappedVolumeIsTheImage(t *testing.T) {
	needMapper(t)
	for _, tc := range []struct {
		aligned bool
		table   string
	}{{false, "0 8191 linear NUMBER 1"}, {true, "0 6144 linear NUMBER 2048"}} {
		path, s, image := filledVolume(t, FillOptions{Aligned: tc.aligned})
		m := mapIt(t, path, "image", MapOptions{})
		if got, want := dmsetup(t, "table", m.Name), strings.Replace(tc.table, "NUMBER", number(t, path), 1); got != want {
			t.Errorf("dmsetup: %s, want %s", got, want)
		}
		got, err := os.ReadFile(m.Node)
		if err != nil || !bytes.Equal(got[:len(image)], image) || int64(len(got)) != m.Size {
			t.Errorf("%d bytes, or others: %v", len(got), err)
		}
		if got := state(t, path); got != volumeheader.Used {
			t.Errorf("state %s", got)
		}
		list, notices, err := List("")
		if err != nil || notices != nil || len(list) != 1 || list[0].Name != m.Name || list[0].Device != path || !list[0].Since.Equal(someday()) ||
			list[0].Header.Record.Snapshot != at(1) || list[0].Size != m.Size {
			t.Errorf("%+v, %v, %v", list, notices, err)
		}
		// The same again is no error, anything else is.
		if again := mapIt(t, path, "image", MapOptions{}); again.Node != m.Node {
			t.Errorf("%+v", again)
		}
		_, err = Map(t.Context(), path, m.Name, MapOptions{ReadOnly: true})
		wantError(t, err, m.Name, "in another way")
		_, err = Map(t.Context(), path, DefaultPrefix+"second", MapOptions{})
		if wantError(t, err, path, "is part of "+m.Node); !busy(err) {
			t.Error(err)
		}
		_, err = Map(t.Context(), loopVolume(t), m.Name, MapOptions{})
		if wantError(t, err, "another volume"); !errors.Is(err, dm.ErrExists) {
			t.Error(err)
		}
		if done, err := Fill(t.Context(), path, s, FillOptions{}); err != nil || !done.Kept {
			t.Errorf("fill with the same image: %+v, %v", done, err)
		}
		if _, err := Fill(t.Context(), path, s, FillOptions{Again: true}); !busy(err) {
			t.Errorf("fill while it is mapped: %v", err)
		}
		unmapIt(t, path)
		if got := dmsetup(t, "ls"); got != "No devices found" {
			t.Errorf("dmsetup: %s", got)
		}
	}
}

func busy(err error) bool {
	_, ok := errors.AsType[*BusyError](err)
	return ok
}

// loopVolume is a volume of version 1.
func loopVolume(t *testing.T) string {
	t.Helper()
	path := loopDevice(t, devSize, loop.Options{})
	if _, err := Ensure(t.Context(), path, image1, 0, Options{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLiveVirtletsMappingIsListedAndTakenAway(t *testing.T) {
	needMapper(t)
	path := loopVolume(t)
	dmsetup(t, "create", DefaultPrefix+"theirs", "--table", "0 8191 linear "+path+" 1")
	for name, table := range map[string]string{
		DefaultPrefix + "no-header": "0 8 linear " + loopDevice(t, devSize, loop.Options{}) + " 1",
		DefaultPrefix + "error":     "0 8 error",
		"other":                     "0 8 linear " + loopVolume(t) + " 1",
	} {
		dmsetup(t, "create", name, "--table", table)
		t.Cleanup(func() { _ = exec.Command("dmsetup", "remove", "--noudevsync", name).Run() })
		if _, err := Unmap(t.Context(), name, UnmapOptions{}); !errors.Is(err, ErrNotMapped) {
			t.Errorf("unmap %s: %v", name, err)
		}
		_, err := Map(t.Context(), loopVolume(t), name, MapOptions{})
		if _, prefix := errors.AsType[*PrefixError](err); !prefix && !errors.Is(err, dm.ErrExists) {
			t.Errorf("map over %s: %v", name, err)
		}
	}
	list, notices, err := List("")
	if err != nil || notices != nil || len(list) != 1 || list[0].Name != DefaultPrefix+"theirs" || list[0].Header.Digest() != image1 || !list[0].Since.IsZero() {
		t.Errorf("%+v, %v, %v", list, notices, err)
	}
	// One that is mapped is ensured all the same, if nothing is to be written.
	if out, err := Ensure(t.Context(), path, image1, 0, Options{}); err != nil || out != Match {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := Ensure(t.Context(), path, image2, 0, Options{}); !busy(err) {
		t.Errorf("%v", err)
	}
	unmapIt(t, DefaultPrefix+"theirs")
}

func TestLiveOpenMappingStays(t *testing.T) {
	needMapper(t)
	path, _, _ := filledVolume(t, FillOptions{})
	m := mapIt(t, path, "open", MapOptions{ReadOnly: true})
	if got := state(t, path); got != volumeheader.Complete {
		t.Errorf("mapped read-only, state %s", got)
	}
	f, err := os.Open(m.Node)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Unmap(t.Context(), m.Name, UnmapOptions{})
	if wantError(t, err, m.Node, "open in process"); !busy(err) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	unmapIt(t, m.Node)
}

// What is written through the mapping must be seen by the next fill, whatever the
// kernel has cached of the device.
func TestLiveFillSeesWhatAGuestWrote(t *testing.T) {
	needMapper(t)
	path, s, image := filledVolume(t, FillOptions{})
	cached, err := os.Open(path) // keeps the cache alive
	if err != nil {
		t.Fatal(err)
	}
	defer cached.Close()
	if _, err := cached.ReadAt(make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	m := mapIt(t, path, "guest", MapOptions{})
	f, err := os.OpenFile(m.Node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("guest "), 100), 300)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	unmapIt(t, m.Name)
	if done, err := Fill(t.Context(), path, s, FillOptions{}); err != nil || !done.Kept {
		t.Errorf("%+v, %v", done, err)
	}
	m = mapIt(t, path, "guest", MapOptions{ReadOnly: true})
	got, err := os.ReadFile(m.Node)
	if err != nil || !bytes.HasPrefix(got[300:], []byte("guest guest")) {
		t.Errorf("%q, %v", got[300:310], err)
	}
	unmapIt(t, m.Name)
	if _, err := Fill(t.Context(), path, s, FillOptions{Again: true}); err != nil {
		t.Fatal(err)
	}
	m = mapIt(t, path, "guest", MapOptions{ReadOnly: true})
	if got, err = os.ReadFile(m.Node); err != nil || !bytes.Equal(got[:len(image)], image) {
		t.Errorf("the image is not back: %v", err)
	}
}

func TestLiveThrowAwayMappingForgets(t *testing.T) {
	needMapper(t)
	path, _, image := filledVolume(t, FillOptions{})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		m := mapIt(t, path, "thrown", MapOptions{ThrowAway: true, ScratchDir: t.TempDir()})
		f, err := os.OpenFile(m.Node, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, m.Size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got[:len(image)], image) {
			t.Fatalf("round %d: it is not the image: %v", round, err)
		}
		junk := bytes.Repeat([]byte("junk"), int(m.Size/4)) // all of it: the room is enough
		_, err = f.WriteAt(junk, 0)
		if err := errors.Join(err, f.Sync()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got[:len(junk)], junk) {
			t.Errorf("what was written is not there: %v", err)
		}
		list, _, err := List("")
		if err != nil || len(list) != 1 || !list[0].ThrowAway || list[0].Device != path {
			t.Errorf("%+v, %v", list, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		unmapIt(t, m.Name)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the volume was changed: %v", err)
	}
	if got := dmsetup(t, "ls"); got != "No devices found" {
		t.Errorf("dmsetup: %s", got)
	}
	if left, _ := filepath.Glob("/sys/block/loop*/loop/backing_file"); len(left) != 1 {
		t.Errorf("loop devices: %q", left)
	}
}

func TestLiveThrowAwayMappingWithoutRoomFailsAndSaysSo(t *testing.T) {
	needMapper(t)
	path, _, _ := filledVolume(t, FillOptions{})
	m := mapIt(t, path, "full", MapOptions{ThrowAway: true, ScratchDir: t.TempDir(), ScratchSize: 64 << 10})
	f, err := os.OpenFile(m.Node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, 1<<20))
	if err := errors.Join(err, f.Sync()); !errors.Is(err, unix.EIO) {
		t.Errorf("more than the room: %v", err)
	}
	_ = f.Close() // its error is the same
	list, _, err := List("")
	if err != nil || len(list) != 1 || list[0].Trouble == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	wantError(t, list[0].Trouble, "no room", "Invalid")
	unmapIt(t, m.Name)
	if got := state(t, path); got != volumeheader.Complete {
		t.Errorf("state %s", got)
	}
}

func TestLiveMappedVolumeOfLargeSectors(t *testing.T) {
	needMapper(t)
	path := loopDevice(t, devSize, loop.Options{BlockSize: 4096})
	image := content(1, 512<<10+700)
	if _, err := Fill(t.Context(), path, save(t, repotest.New(), 1, image), one(FillOptions{})); err != nil {
		t.Fatal(err)
	}
	m := mapIt(t, path, "large", MapOptions{ReadOnly: true})
	if got, want := dmsetup(t, "table", m.Name), "0 6144 linear "+number(t, path)+" 2048"; got != want {
		t.Errorf("dmsetup: %s, want %s", got, want)
	}
	if got, err := os.ReadFile(m.Node); err != nil || !bytes.Equal(got[:len(image)], image) {
		t.Errorf("it is not the image: %v", err)
	}
	unmapIt(t, m.Name)
	// One of version 1 begins in the middle of a sector.
	volumeheaderOn(t, path, volumeheader.Short(image1))
	_, err := Map(t.Context(), path, m.Name, MapOptions{})
	wantError(t, err, path, "sectors of 4096 bytes", "byte 512")
}

// volumeheaderOn writes a header as another program would.
func volumeheaderOn(t *testing.T, path string, h volumeheader.Header) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	sector, err := readSector(f)
	h.Put(sector)
	_, werr := f.WriteAt(sector, 0)
	if err := errors.Join(err, werr, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestLiveVolumeThatIsNotWholeIsNotMapped(t *testing.T) {
	needMapper(t)
	path, _, _ := filledVolume(t, FillOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fill(ctx, path, save(t, repotest.New(), 2, content(7, 512<<10)), FillOptions{}); err == nil || state(t, path) != volumeheader.Filling {
		t.Fatalf("state %s, %v", state(t, path), err)
	}
	_, err := Map(t.Context(), path, DefaultPrefix+"x", MapOptions{})
	if wantError(t, err, path, "restore the snapshot again"); !errors.Is(err, ErrFilling) {
		t.Error(err)
	}
	_, err = Map(t.Context(), loopDevice(t, devSize, loop.Options{}), DefaultPrefix+"x", MapOptions{})
	if wantError(t, err, "no header of a volume"); !errors.Is(err, volumeheader.ErrNone) {
		t.Error(err)
	}
	_, err = Map(t.Context(), file(t, devSize), DefaultPrefix+"x", MapOptions{})
	wantError(t, err, "is a file", "losetup")
}
