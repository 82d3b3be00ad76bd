package xfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/xfs"
)

// What is on another device cannot be read, and is refused with a sentence.
func TestWhatLiesOnAnotherDeviceIsRefusedByName(t *testing.T) {
	log := fsreadtest.Make(t, 80<<20)
	img := fsreadtest.Make(t, 300<<20, "mkfs.xfs", "-q", "-f", "-l", "logdev="+log)
	_, err := xfs.Open(fsreadtest.OpenFile(t, img))
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "a log on another device") {
		t.Errorf("%v", err)
	}
}

// A file on the real-time device is one of many, and the others are read.
func TestFilesOnARealTimeDeviceAreRefusedAndOthersRead(t *testing.T) {
	rt := fsreadtest.Make(t, 64<<20)
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "content"), []byte("here"), 0o644),
		os.WriteFile(filepath.Join(dir, "proto"), []byte("boot 0 0\nd--755 0 0\nplain ---644 0 0 "+filepath.Join(dir, "content")+"\nlive ---644 0 0 "+filepath.Join(dir, "content")+"\n$\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	img := fsreadtest.Make(t, 300<<20, "mkfs.xfs", "-q", "-f", "-r", "rtdev="+rt, "-p", filepath.Join(dir, "proto"), "-m", "crc=0")
	// The flag that its data is over there, which only the kernel sets with such a device at hand.
	f, err := xfs.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Lookup(f.Root(), "live")
	if err != nil {
		t.Fatal(err)
	}

	fsreadtest.Run(t, "xfs_db", "-x", "-c", "inode "+strconv.FormatUint(e.ID.Number, 10), "-c", "write core.realtime 1", img)
	if f, err = xfs.Open(fsreadtest.OpenFile(t, img)); err != nil {
		t.Fatal(err)
	}
	_, err = f.Open(e.ID)
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "real-time device") {
		t.Errorf("%v", err)
	}
	if e, err = f.Lookup(f.Root(), "plain"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(e.ID); err != nil {
		t.Error(err)
	}
}
