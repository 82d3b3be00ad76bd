package dirstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// must runs a program; without it the test is skipped, except in CI.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	need(t, name)
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

const grain = 64 << 10 // of the bitmaps

// disk is a guest's disk with a dirty bitmap.
type disk struct {
	b     []byte
	dirty map[int64]bool
}

func newDisk(size int, r *rand.Rand) *disk {
	d := &disk{b: make([]byte, size), dirty: map[int64]bool{}}
	d.change(r, 12)
	return d
}

// change writes, and now and then discards, somewhere.
func (d *disk) change(r *rand.Rand, times int) {
	for range times {
		n := min(1+r.Int64N(3*grain), int64(len(d.b)))
		off := r.Int64N(int64(len(d.b)) - n + 1)
		fill := byte(r.IntN(4))
		for i := off; i < off+n; i++ {
			d.b[i] = fill
		}
		for g := off / grain; g*grain < off+n; g++ {
			d.dirty[g] = true
		}
	}
}

// point is the disk at a moment, as a backup reads it. What is clean cannot be
// read.
func (d *disk) point(mode provider.Mode) *point {
	p := &point{b: bytes.Clone(d.b), consumed: map[int64]bool{}}
	if mode == provider.ModeReuse {
		p.dirty = maps.Clone(d.dirty)
	}
	return p
}

type point struct {
	b     []byte
	dirty map[int64]bool // nil: all
	fail  error          // of the last byte

	mu       sync.Mutex
	consumed map[int64]bool
}

func (p *point) Size() int64 { return int64(len(p.b)) }

func (p *point) ReadAt(b []byte, off int64) (int, error) {
	if p.dirty != nil {
		for g := off / grain; g*grain < off+int64(len(b)); g++ {
			if !p.dirty[g] {
				return 0, fmt.Errorf("clean block %d was read", g)
			}
		}
	}
	if p.fail != nil && off+int64(len(b)) >= p.Size() {
		return 0, p.fail
	}
	return bytes.NewReader(p.b).ReadAt(b, off)
}

func (p *point) ExtentAt(off int64) (image.Extent, error) {
	g := off / grain
	e := image.Extent{Offset: off, Length: min((g+1)*grain, p.Size()) - off}
	switch {
	case p.dirty != nil && !p.dirty[g]:
		e.Kind = image.Unchanged
	case g%3 == 0 && bytes.Count(p.b[off:e.End()], []byte{0}) == int(e.Length):
		e.Kind = image.Zero
	}
	return e, nil
}

func (p *point) Consumed(off, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := off / grain; g*grain < off+n; g++ {
		p.consumed[g] = true
	}
}

// machine is a guest that is backed up again and again.
type machine struct {
	guest provider.Guest
	disks map[string]*disk
	start int64
	last  provider.Archive
	uses  bool // bitmaps that count from last exist
}

func newMachine(r *rand.Rand, id int, sizes ...int) *machine {
	m := &machine{guest: provider.Guest{Kind: provider.QEMU, ID: id}, disks: map[string]*disk{}, start: 1700000000}
	for n, size := range sizes {
		m.disks[fmt.Sprintf("drive-scsi%d", n)] = newDisk(size, r)
	}
	return m
}

// clone is the machine at this moment.
func (m *machine) clone() *machine {
	c := *m
	c.disks = map[string]*disk{}
	for name, d := range m.disks {
		c.disks[name] = &disk{bytes.Clone(d.b), maps.Clone(d.dirty)}
	}
	return &c
}

// content is what each disk of a backup must have.
type content map[string][]byte

// vm takes a consistent point, incremental where the storage lets it.
func (m *machine) vm(s provider.Storage) (provider.VM, content, error) {
	vm := provider.VM{Configs: provider.Configs{Guest: []byte(fmt.Sprintf("name: vm%d\n", m.start))}}
	usable := map[string]bool{}
	if m.uses {
		sizes := map[string]int64{}
		for name, d := range m.disks {
			sizes[name] = int64(len(d.b))
		}
		var err error
		if usable, err = s.Reusable(context.Background(), m.last, sizes); err != nil {
			return vm, nil, err
		}
	}
	want := content{}
	for _, name := range slices.Sorted(maps.Keys(m.disks)) {
		mode := provider.ModeNew
		if usable[name] {
			mode, vm.Base = provider.ModeReuse, m.last
		}
		p := m.disks[name].point(mode)
		vm.Volumes = append(vm.Volumes, provider.Volume{Device: name, Image: p, Mode: mode})
		want[name] = p.b
	}
	return vm, want, nil
}

// backup makes one backup, a minute after the one before.
func (m *machine) backup(s provider.Storage) (provider.Archive, content, error) {
	m.start += 60
	a := s.Archive(m.guest, time.Unix(m.start, 0))
	vm, want, err := m.vm(s)
	if err != nil {
		return a, nil, err
	}
	if _, err := s.BackupVM(context.Background(), a, vm); err != nil {
		return a, want, err
	}
	m.last, m.uses = a, true
	for _, d := range m.disks {
		clear(d.dirty)
	}
	return a, want, nil
}

func (m *machine) change(r *rand.Rand, times int) {
	for _, name := range slices.Sorted(maps.Keys(m.disks)) {
		m.disks[name].change(r, times)
	}
}

// restore reads all disks of a backup.
func restore(s provider.Storage, a provider.Archive) (content, error) {
	src, err := s.Open(context.Background(), a)
	if err != nil {
		return nil, err
	}
	got := content{}
	for _, v := range src.Volumes() {
		img, err := src.Volume(context.Background(), v.Device)
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		b := make([]byte, v.Size)
		_, err = img.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, src.Close())
		}
		got[v.Device] = b
		if err := img.Close(); err != nil {
			return nil, err
		}
	}
	return got, src.Close()
}

// same compares disks; what is restored is rounded up to sectors.
func same(got, want content) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d disks, want %d", len(got), len(want))
	}
	for name, w := range want {
		g := got[name]
		round := (len(w) + 511) &^ 511
		if len(g) != round || !bytes.Equal(g[:len(w)], w) || bytes.Count(g[len(w):], []byte{0}) != round-len(w) {
			return fmt.Errorf("disk %s differs (%d bytes, want %d)", name, len(g), round)
		}
	}
	return nil
}

func store(t testing.TB, v vfs.FS, o dirstore.Options) *dirstore.Store {
	t.Helper()
	s, err := dirstore.New(v, "/storage", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names lists the archives that are listed.
func names(t testing.TB, s provider.Storage) []string {
	t.Helper()
	list, err := s.List(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name)
	}
	return all
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
