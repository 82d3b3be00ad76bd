package md_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/md"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	slotSize = 2 << 20 // of the disk, for each member
	mostOf   = 5       // members of an array
	block    = 4096
)

// sample is an array that mdadm made and the kernel wrote, see makeSamples:
// its members lie one behind the other on the disk in testdata, at slots of 2 MiB.
type sample struct {
	args    string
	members int
	shrink  int64 // bytes by which each member is shorter than the one before
}

// samples come in the order of the disk: new ones belong at the end.
var samples = []sample{
	{"--metadata=1.2 --level=linear", 3, 256 << 10},
	{"--metadata=0.90 --level=linear --rounding=64", 2, 0},
	{"--metadata=1.2 --level=0 --chunk=4", 3, 0},
	{"--metadata=1.1 --level=0 --chunk=12", 3, 0},
	{"--metadata=1.2 --level=0 --chunk=4 --layout=alternate", 3, 128<<10 + 4096},
	{"--metadata=1.2 --level=0 --chunk=4 --layout=original", 3, 128<<10 + 4096},
	{"--metadata=0.90 --level=1 --size=256", 2, 0},
	{"--metadata=1.0 --level=1 --size=256", 2, 0},
	{"--metadata=1.1 --level=1 --size=256", 2, 0},
	{"--metadata=1.2 --level=1 --size=256", 3, 0},
	{"--metadata=1.2 --level=4 --chunk=4 --size=128", 4, 0},
	{"--metadata=0.90 --level=5 --chunk=4 --size=128 --layout=left-symmetric", 4, 0},
	{"--metadata=1.0 --level=5 --chunk=4 --size=128 --layout=left-asymmetric", 4, 0},
	{"--metadata=1.1 --level=5 --chunk=8 --size=128 --layout=right-symmetric", 3, 0},
	{"--metadata=1.2 --level=5 --chunk=4 --size=128 --layout=right-asymmetric", 5, 0},
	{"--metadata=1.2 --level=5 --chunk=4 --size=128 --layout=parity-first", 3, 0},
	{"--metadata=1.2 --level=5 --chunk=4 --size=128 --layout=parity-last", 3, 0},
	{"--metadata=0.90 --level=6 --chunk=4 --size=128 --layout=left-symmetric", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=left-asymmetric", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=right-symmetric", 4, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=right-asymmetric", 4, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=parity-first", 4, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=parity-last", 4, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=ddf-zero-restart", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=ddf-N-restart", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=ddf-N-continue", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=left-symmetric-6", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=left-asymmetric-6", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=right-symmetric-6", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=right-asymmetric-6", 5, 0},
	{"--metadata=1.2 --level=6 --chunk=4 --size=128 --layout=parity-first-6", 4, 0},
	{"--metadata=0.90 --level=10 --chunk=4 --size=128 --layout=n2", 4, 0},
	{"--metadata=1.2 --level=10 --chunk=4 --size=128 --layout=n2", 3, 0},
	{"--metadata=1.2 --level=10 --chunk=4 --size=128 --layout=n3", 5, 0},
	{"--metadata=1.2 --level=10 --chunk=4 --size=128 --layout=f2", 4, 0},
	{"--metadata=1.2 --level=10 --chunk=4 --size=132 --layout=f3", 5, 0},
	{"--metadata=1.2 --level=10 --chunk=8 --size=128 --layout=o2", 3, 0},
	{"--metadata=1.2 --level=10 --chunk=4 --size=128 --layout=o2", 5, 0},
}

// pattern is what the blocks of all arrays hold: their numbers, twice.
func pattern(b []byte, number int64) {
	clear(b)
	copy(b, fmt.Sprintf("block %d\n", number))
	copy(b[3000:], fmt.Sprintf("still block %d\n", number))
}

// disk is the one with all members.
func disk(t testing.TB) image.Image {
	t.Helper()
	return fsreadtest.LoadSparse(t, filepath.Join("testdata", "arrays.gz"))
}

// membersOf are the images of a sample's members.
func membersOf(t testing.TB, on image.Image, i int) (all []image.Image) {
	t.Helper()
	for k := range samples[i].members {
		img, err := image.NewSection(on, int64(i*mostOf+k)*slotSize, slotSize-int64(k)*samples[i].shrink)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, img)
	}
	return all
}

// array reads the superblocks of images, which are members of one array.
func array(t testing.TB, images ...image.Image) *md.Array {
	t.Helper()
	var all []*md.Member
	for _, img := range images {
		m, err := md.Read(img)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	arrays := md.Assemble(all)
	if len(arrays) != 1 {
		t.Fatalf("%d arrays", len(arrays))
	}
	return arrays[0]
}

// check compares the content of an array with the pattern.
func check(t *testing.T, img image.Image) {
	t.Helper()
	if img.Size() < 32*block || img.Size()%512 != 0 {
		t.Fatalf("%d bytes", img.Size())
	}
	got, want := make([]byte, 3*block), make([]byte, block)
	for off := int64(0); off < img.Size(); off += int64(len(got)) {
		part := got[:min(int64(len(got)), img.Size()-off)]
		if n, err := img.ReadAt(part, off); n != len(part) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
		for i := 0; i < len(part); i += block {
			pattern(want, (off+int64(i))/block)
			if end := min(len(part), i+block); !bytes.Equal(part[i:end], want[:end-i]) {
				t.Fatalf("block %d of %d is %.20q", (off+int64(i))/block, img.Size()/block, part[i:])
			}
		}
	}
	for off := int64(0); off < img.Size(); {
		e, err := image.ExtentAt(img, off)
		if err != nil || e.Offset != off || e.Length < 1 || e.End() > img.Size() {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		off = e.End()
	}
}

func TestArraysAreReadAsTheKernelWroteThem(t *testing.T) {
	if *update {
		makeSamples(t)
	}
	on := disk(t)
	for i, s := range samples {
		t.Run(s.args, func(t *testing.T) {
			a := array(t, membersOf(t, on, i)...)
			img, err := a.Open()
			if err != nil {
				t.Fatal(err)
			}
			if a.Notices != nil {
				t.Errorf("%q", a.Notices)
			}
			if !strings.Contains(s.args, "0.90") && a.Name != fmt.Sprintf("sample%d", i) {
				t.Errorf("its name is %q", a.Name)
			}
			check(t, img)
		})
	}
}

func TestAMissingMemberIsNoHarmWhereItsDataIsElsewhere(t *testing.T) {
	on := disk(t)
	for i, s := range samples {
		for gone := range s.members {
			images := membersOf(t, on, i)
			images = append(images[:gone:gone], images[gone+1:]...)
			a := array(t, images...)
			img, err := a.Open()
			if strings.Contains(s.args, "--level=linear") || strings.Contains(s.args, "--level=0") {
				if lack, ok := errors.AsType[*md.MissingError](err); !ok || lack.Have != s.members-1 || lack.Of != s.members {
					t.Errorf("%s without member %d: %v", s.args, gone, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s without member %d: %v", s.args, gone, err)
				continue
			}
			if len(a.Notices) != 1 {
				t.Errorf("%q", a.Notices)
			}
			check(t, img)
		}
	}
}

func TestTooFewMembersAreSaidToBe(t *testing.T) {
	on := disk(t)
	for i, s := range samples {
		images := membersOf(t, on, i)
		if strings.Contains(s.args, "--level=1 ") {
			continue // one is enough
		}
		_, err := array(t, images[0]).Open()
		u := &fsread.UnsupportedError{}
		if lack, ok := errors.AsType[*md.MissingError](err); !ok && !errors.As(err, &u) || ok && lack.Have != 1 {
			t.Errorf("%s with one member: %v", s.args, err)
		}
	}
}
