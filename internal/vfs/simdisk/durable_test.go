package simdisk_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// replace writes a file durably, or leaves out one step of it.
func replace(v vfs.FS, content string, without string) error {
	f, err := v.Create("tmp", 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(content))
	if err == nil && without != "sync" {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = v.Rename("tmp", "f")
	}
	if err == nil && without != "syncdir" {
		err = v.SyncDir(".")
	}
	return err
}

// everyCrash cuts the power before every call of replace, many times each, and
// says what was wrong afterwards.
func everyCrash(t *testing.T, without string) (wrong string) {
	t.Helper()
	start := simdisk.New(simdisk.Options{})
	must(t, replace(start, "old", ""))
	must(t, start.SyncFS())
	for point := 0; ; point++ {
		d := start.Clone()
		d.StopAfter(point)
		err := replace(d, "new", without)
		if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
			t.Fatal(err)
		}
		for seed := range uint64(300) {
			c := d.Crash(rand.New(rand.NewPCG(seed, uint64(point))))
			b, cerr := c.Content("f")
			switch {
			case errors.Is(cerr, fs.ErrNotExist):
				return "lost"
			case err == nil && string(b) == "old":
				return "not durable"
			case string(b) != "old" && string(b) != "new":
				return "torn"
			}
		}
		if err == nil {
			return ""
		}
	}
}

func TestCrashesTellDurableFromNearlyDurable(t *testing.T) {
	for without, want := range map[string]string{"": "", "sync": "torn", "syncdir": "not durable"} {
		if got := everyCrash(t, without); got != want {
			t.Errorf("without %q: %q, want %q", without, got, want)
		}
	}
}
