package overlay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const (
	sector   = 512
	block    = format.BlockSize
	pageSpan = format.PageBlocks * block // bytes that a map page covers
)

// made is an image of any size whose sectors say which they are.
type made struct {
	size  int64
	reads atomic.Int64
}

func (m *made) Size() int64 { return m.size }

func (m *made) ReadAt(p []byte, off int64) (int, error) {
	m.reads.Add(1)
	return image.ReadWithin(p, off, m.size, func(p []byte, off int64) (int, error) {
		for done := 0; done < len(p); {
			at := off + int64(done)
			s := content(baseVersion, at/sector)
			done += copy(p[done:], s[at%sector:])
		}
		return len(p), nil
	})
}

const baseVersion = 0

// content is the bytes of a sector as some write left it; negative: zeros.
func content(version int, number int64) (b [sector]byte) {
	if version < 0 {
		return b
	}
	seed := uint64(version)<<40 ^ uint64(number)
	for i := 0; i < sector; i += 8 {
		seed = seed*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[i:], seed^seed>>29|1)
	}
	return b
}

func meta(size int64) overlay.Meta {
	return overlay.Meta{
		Repository: "/srv/backup",
		Snapshot:   names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000},
		Archive:    "disk.img.fidx",
		Size:       size,
		IndexSum:   digest.Of(fmt.Append(nil, size)),
		Created:    1_700_000_100,
	}
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// fresh is a new overlay in a directory of the test.
func fresh(t testing.TB, base image.Image, o overlay.Options) *overlay.Overlay {
	t.Helper()
	ov, err := overlay.Create(filepath.Join(t.TempDir(), "disk.overlay"), base, meta(base.Size()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ov.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
	return ov
}

func readAll(t testing.TB, img image.Image) []byte {
	t.Helper()
	b := make([]byte, img.Size())
	if n, err := img.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	return b
}

// wantExtents checks that extents say nothing wrong about content.
func wantExtents(t testing.TB, img image.Image, whole []byte) {
	t.Helper()
	for off := int64(0); off < img.Size(); {
		e, err := image.ExtentAt(img, off)
		if err != nil || e.Offset != off || e.Length <= 0 || e.End() > img.Size() {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		if e.Kind == image.Zero && bytes.IndexFunc(whole[off:e.End()], func(r rune) bool { return r != 0 }) >= 0 {
			t.Fatalf("extent %+v is not zero", e)
		}
		off = e.End()
	}
}

// simulated is a disk that can lose its power. Punching writes zeros there, as
// far as a crash is concerned the same.
type simulated struct {
	p      *simdisk.Process
	noHole bool
	fail   func(op string) error // asked before each change of a file; may be nil
}

func (d *simulated) ask(op string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(op)
}

func (d *simulated) Open(path string, write bool) (overlay.File, error) {
	open := d.p.Open
	if write {
		open = d.p.OpenWrite
	}
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &simFile{File: f, d: d, path: path}, nil
}

func (d *simulated) Create(path string) (overlay.File, string, error) {
	f, err := d.p.Create(path+".new", 0o600)
	if errors.Is(err, fs.ErrExist) { // a leftover of a crash; real ones have random names
		if err = d.p.Remove(path + ".new"); err == nil {
			f, err = d.p.Create(path+".new", 0o600)
		}
	}
	if err != nil {
		return nil, "", err
	}
	return &simFile{File: f, d: d, path: path + ".new"}, path + ".new", nil
}

func (d *simulated) Claim(temp, path string) error {
	if _, err := d.p.Lstat(path); err == nil {
		return fs.ErrExist
	}
	return d.p.Rename(temp, path)
}

func (d *simulated) Remove(path string) error { return d.p.Remove(path) }
func (d *simulated) SyncDir(string) error     { return d.p.SyncDir(".") }

type simFile struct {
	vfs.File
	d    *simulated
	path string
	held vfs.Unlocker
}

func (f *simFile) Lock() (err error) {
	f.held, err = f.d.p.LockRange(f.path, 0, 0, vfs.Exclusive)
	if errors.Is(err, vfs.ErrLocked) {
		return overlay.ErrInUse
	}
	return err
}

func (f *simFile) Close() error {
	if f.held != nil {
		_ = f.held.Unlock()
	}
	return f.File.Close()
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.ask("write"); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2/sector*sector], off) // by half
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *simFile) Sync() error {
	if err := f.d.ask("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *simFile) Punch(off, n int64) error {
	if f.d.noHole {
		return errors.ErrUnsupported
	}
	_, err := f.File.WriteAt(make([]byte, n), off)
	return err
}

// Extent knows no holes, or believes that the whole map is there.
func (f *simFile) Extent(off, size int64) (image.Extent, error) {
	return image.Extent{Offset: off, Length: size - off, Kind: image.Data}, nil
}
