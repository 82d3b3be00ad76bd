package faultfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
	"github.com/holdfast-backup/holdfast/internal/vfs/vfstest"
)

func TestWithoutRulesNothingChanges(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return faultfs.New(simdisk.New(simdisk.Options{})) })
}

// save is the thing under test: a file made durable.
func save(v vfs.FS) error {
	f, err := v.Create("tmp", 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("content"))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = v.Rename("tmp", "final")
	}
	if err == nil {
		err = v.SyncDir(".")
	}
	return err
}

func TestEveryStepFailsOnce(t *testing.T) {
	var failed []string
	for n := 1; ; n++ {
		v := faultfs.New(simdisk.New(simdisk.Options{}), &faultfs.Rule{N: n, Err: syscall.EIO})
		err := save(v)
		if !v.Fired() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "injected") {
			t.Errorf("call %d: err = %v", n, err)
		}
		calls := v.Calls()
		i := slices.IndexFunc(calls, func(c faultfs.Call) bool { return c.Failed })
		failed = append(failed, calls[i].String())
	}
	want := []string{"create tmp", "write tmp", "sync tmp", "close tmp", "rename tmp final", "syncdir ."}
	if !slices.Equal(failed, want) {
		t.Errorf("failed %q, want %q", failed, want)
	}
}

func TestRulesSelectByOperationAndPath(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	v := faultfs.New(d,
		&faultfs.Rule{Ops: []faultfs.Op{faultfs.Mkdir}, Path: "b*", Err: syscall.ENOSPC, Times: 2},
		&faultfs.Rule{Path: "d/*", Err: syscall.EIO, Times: -1},
	)
	for _, c := range []struct {
		name string
		want error
	}{{"a", nil}, {"b1", syscall.ENOSPC}, {"b2", syscall.ENOSPC}, {"b3", nil}, {"d", nil}, {"d/x", syscall.EIO}, {"d/y", syscall.EIO}} {
		if err := v.Mkdir(c.name, 0o755); !errors.Is(err, c.want) {
			t.Errorf("mkdir %s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := v.Rename("a", "d/a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("rename to a matching name: %v", err)
	}
	if n := v.Count("b?", faultfs.Mkdir); n != 3 {
		t.Errorf("%d calls counted", n)
	}
}

func TestShortWriteWritesHalf(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	v := faultfs.New(d, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Write}, Short: true, Err: syscall.ENOSPC})
	f, err := v.Create("f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Write([]byte("12345678"))
	if n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	if b, _ := d.Content("f"); !bytes.Equal(b, []byte("1234")) {
		t.Errorf("content %q", b)
	}
}

func TestLostAnswerDidTheWork(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	v := faultfs.New(d, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Rename, faultfs.Create}, Times: -1, Done: true, Err: syscall.EIO})
	if err := v.Mkdir("a", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := v.Rename("a", "b"); !errors.Is(err, syscall.EIO) {
		t.Errorf("err = %v", err)
	}
	if f, err := v.Create("f", 0o600); f != nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("create: %v, %v", f, err)
	}
	for _, name := range []string{"b", "f"} {
		if _, err := d.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Lstat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a: %v", err)
	}
}
