package md

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Samples on the disk in testdata, see arrays_linux_test.go.
const (
	oneOfThree = 9  // RAID 1, 1.2
	five       = 14 // RAID 5, 1.2, of 5
	oldFive    = 11 // RAID 5, 0.90, of 4
	zero       = 2  // RAID 0, 1.2
	ten        = 32 // RAID 10, 1.2
)

// sample gives the members of a sample, in memory.
func sample(t testing.TB, i, members int) (all []fsreadtest.Mem) {
	t.Helper()
	on := fsreadtest.LoadSparse(t, filepath.Join("testdata", "arrays.gz"))
	for k := range members {
		b := make([]byte, 2<<20)
		if err := fsread.ReadFull(on, "test", b, int64(i*5+k)*int64(len(b))); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// edit changes a superblock of version 1.2, with a new checksum.
func edit(m fsreadtest.Mem, change func(b []byte)) {
	b := m[4096:]
	change(b)
	b = b[:256+2*min(maxRoles, le.Uint32(b[220:]))]
	le.PutUint32(b[216:], sum1(b))
}

func assembled(t testing.TB, images ...fsreadtest.Mem) *Array {
	t.Helper()
	var all []*Member
	for _, img := range images {
		m, err := Read(img)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	arrays := Assemble(all)
	if len(arrays) != 1 {
		t.Fatalf("%d arrays", len(arrays))
	}
	return arrays[0]
}

func events(by uint64) func([]byte) {
	return func(b []byte) { le.PutUint64(b[200:], le.Uint64(b[200:])+by) }
}

func TestAMemberThatWasLeftBehindDoesNotCount(t *testing.T) {
	m := sample(t, oneOfThree, 3)
	edit(m[1], events(5))
	edit(m[2], events(4))
	at := int64(le.Uint64(m[0][4096+128:]) * sector)
	copy(m[1][at:], "newest")
	a := assembled(t, m...)
	img, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := img.ReadAt(got, 0); err != nil || string(got) != "newest" {
		t.Errorf("%q, %v", got, err)
	}
	if len(a.Notices) != 2 || !strings.Contains(a.Notices[0], "left behind") || !strings.Contains(a.Notices[1], "of 3 members 2") {
		t.Errorf("%q", a.Notices)
	}
	m = sample(t, zero, 3)
	edit(m[0], events(2))
	_, err = assembled(t, m...).Open()
	if lack, ok := errors.AsType[*MissingError](err); !ok || lack.Have != 1 || lack.Behind != 2 || !strings.Contains(err.Error(), "event counts") {
		t.Errorf("%v", err)
	}
}

func TestTheNewestMemberSaysWhoFailed(t *testing.T) {
	m := sample(t, five, 5)
	edit(m[0], func(b []byte) { // it has seen member 2 fail, which could not write that down
		events(1)(b)
		le.PutUint16(b[256+2*2:], 0xfffe)
	})
	a := assembled(t, m...)
	if a.slots[2] != nil || a.have != 4 {
		t.Errorf("%d members, %v", a.have, a.slots)
	}
	if _, err := a.Open(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsBeingRebuiltIsNoMember(t *testing.T) {
	for _, feature := range []uint32{featureRecovering, featureRecoveryBitmap, featureReplacement} {
		m := sample(t, five, 5)
		edit(m[3], func(b []byte) { le.PutUint32(b[8:], feature) })
		if a := assembled(t, m...); a.slots[3] != nil || a.behind != 1 {
			t.Errorf("feature %#x: %v", feature, a.slots)
		}
	}
}

func TestWhatIsNotKnownIsRefusedByName(t *testing.T) {
	unsupported := func(err error, what string) bool {
		u, ok := errors.AsType[*fsread.UnsupportedError](err)
		return ok && strings.Contains(u.What, what)
	}
	for what, feature := range map[string]uint32{
		"being reshaped": featureReshape, "a journal": featureJournal, "bad blocks": featureBadBlocks, "features 0x8000": 0x8000,
	} {
		m := sample(t, five, 1)
		edit(m[0], func(b []byte) { le.PutUint32(b[8:], feature) })
		if _, err := Read(m[0]); !unsupported(err, what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	dirty := sample(t, five, 5)
	for _, m := range dirty {
		edit(m, func(b []byte) { le.PutUint64(b[208:], 0) })
	}
	if _, err := assembled(t, dirty...).Open(); err != nil {
		t.Errorf("not in sync and whole: %v", err)
	}
	if _, err := assembled(t, dirty[1:]...).Open(); !unsupported(err, "not in sync") {
		t.Errorf("not in sync and without a member: %v", err)
	}
	for what, tc := range map[string]struct {
		at    int
		value uint32
	}{"level 7": {72, 7}, "layout 44": {76, 44}} {
		m := sample(t, five, 5)
		for _, m := range m {
			edit(m, func(b []byte) { le.PutUint32(b[tc.at:], tc.value) })
		}
		if _, err := assembled(t, m...).Open(); !unsupported(err, what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m := sample(t, zero, 3)
	edit(m[0], func(b []byte) { le.PutUint64(b[136:], 1000) })
	for _, m := range m {
		edit(m, func(b []byte) { le.PutUint32(b[8:], 0) })
	}
	if _, err := assembled(t, m...).Open(); !unsupported(err, "does not say its layout") {
		t.Errorf("zones without a layout: %v", err)
	}
	m = sample(t, five, 5)
	if _, err := assembled(t, append(m, m[4])...).Open(); !unsupported(err, "two images are member 4") {
		t.Errorf("one image twice: %v", err)
	}
}

func TestSuperblocksThatContradictThemselvesAreDamaged(t *testing.T) {
	le32 := func(at int, v uint32) func(fsreadtest.Mem) {
		return func(m fsreadtest.Mem) { edit(m, func(b []byte) { le.PutUint32(b[at:], v) }) }
	}
	for what, change := range map[string]func(m fsreadtest.Mem){
		"a wrong checksum":     func(m fsreadtest.Mem) { m[4096+33]++ },
		"roles without end":    le32(220, 5000),
		"no members":           le32(92, 0),
		"data behind the end":  le32(132, 1),
		"more used than it is": le32(80, 1<<30),
		"no chunks":            le32(88, 0),
	} {
		m := sample(t, five, 1)[0]
		change(m)
		if _, err := Read(m); !fsread.IsCorrupt(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	old := sample(t, oldFive, 1)[0]
	old[len(old)-64<<10+40]++
	if _, err := Read(old); !fsread.IsCorrupt(err) {
		t.Errorf("0.90: %v", err)
	}
	old = sample(t, oldFive, 1)[0]
	super := old[len(old)-64<<10:]
	le.PutUint32(super[4*38:], le.Uint32(super[4*38:])+1-le.Uint32(super[4*65:]))
	le.PutUint32(super[4*65:], 1)
	if _, err := Read(old); !fsread.IsCorrupt(err) || !strings.Contains(err.Error(), "chunks of 1 bytes") {
		t.Errorf("0.90 with tiny chunks: %v", err)
	}
	m := sample(t, five, 5)
	edit(m[1], func(b []byte) { le.PutUint32(b[88:], 16) })
	if _, err := assembled(t, m...).Open(); !fsread.IsCorrupt(err) {
		t.Errorf("two opinions: %v", err)
	}
}

func TestImagesWithoutASuperblockAreNoMembers(t *testing.T) {
	for _, size := range []int{0, 100, 4096, 65536, 1 << 20} {
		if _, err := Read(make(fsreadtest.Mem, size)); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for _, at := range []int64{0, 4096, 1<<20 - 8<<10, 1<<20 - 64<<10} {
		bad := image.Faulty{Image: make(fsreadtest.Mem, 1<<20), Bad: at, Length: 512, Err: syscall.EIO}
		if _, err := Read(bad); !errors.Is(err, syscall.EIO) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

func TestArraysHaveDifferentNames(t *testing.T) {
	a, b := &Member{UUID: "1", Name: "same", roles: []role{0}, array: geometry{members: 1}}, &Member{UUID: "2", Name: "same", roles: []role{0}, array: geometry{members: 1}}
	c := &Member{UUID: "3", Name: "with/slash", roles: []role{0}, array: geometry{members: 1}}
	var names []string
	for _, x := range Assemble([]*Member{a, b, c}) {
		names = append(names, x.Name)
	}
	if strings.Join(names, " ") != "same 2 3" {
		t.Errorf("%q", names)
	}
}

// Superblocks may say anything, and members different things: reading ends, and
// what it gives has the size that it says.
func FuzzArray(f *testing.F) {
	for i := range uint64(12) {
		f.Add(i, uint8(1<<(i%6)), i%5)
	}
	kinds := [][]fsreadtest.Mem{sample(f, five, 5), sample(f, ten, 3), sample(f, zero, 3), sample(f, oneOfThree, 3), sample(f, five, 3)}
	f.Fuzz(func(t *testing.T, seed uint64, flips uint8, kind uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var all []*Member
		same := r.IntN(2) == 0 // the same changes on all members
		for _, m := range kinds[kind%uint64(len(kinds))] {
			m = bytes.Clone(m[:1<<20])
			if same {
				r = rand.New(rand.NewPCG(seed, 1))
			}
			edit(m, func(b []byte) {
				for range flips {
					b[64+r.IntN(200)] = byte(r.Uint32() >> (8 * r.IntN(4)))
				}
			})
			if x, err := Read(m); err == nil {
				all = append(all, x)
			}
		}
		for _, a := range Assemble(all) {
			img, err := a.Open()
			if err != nil {
				continue
			}
			if img.Size() < 1 {
				t.Fatalf("%d bytes", img.Size())
			}
			n := min(1<<16, img.Size())
			for _, off := range []int64{0, img.Size() - n, img.Size() / 2} {
				b := make([]byte, n)
				if got, err := img.ReadAt(b, off); err == nil && int64(got) != n {
					t.Fatalf("%d bytes at %d of %d", got, off, img.Size())
				}
				if e, err := image.ExtentAt(img, off); err == nil && (e.Length < 1 || e.End() > img.Size()) {
					t.Fatalf("extent %+v at %d of %d", e, off, img.Size())
				}
			}
		}
	})
}
