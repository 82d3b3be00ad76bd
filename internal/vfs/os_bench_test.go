package vfs_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

func BenchmarkReadDirOf65536(b *testing.B) {
	o, err := vfs.OpenOS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	for i := range 65536 {
		if err := o.Mkdir(fmt.Sprintf("%04x", i), 0o750); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if list, err := o.ReadDir("."); err != nil || len(list) != 65536 {
			b.Fatal(len(list), err)
		}
	}
}

func BenchmarkTouchInSubdirectory(b *testing.B) {
	o, err := vfs.OpenOS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	for _, d := range []string{".chunks", ".chunks/0000"} {
		if err := o.Mkdir(d, 0o750); err != nil {
			b.Fatal(err)
		}
	}
	f, err := o.Create(".chunks/0000/x", 0o640)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Touch(".chunks/0000/x"); err != nil {
			b.Fatal(err)
		}
	}
}
