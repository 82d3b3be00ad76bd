package ext_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// used are the places of an image that are not zeros, in pieces of 64 bytes.
func used(b []byte) (places []int) {
	zero := make([]byte, 64)
	for at := 0; at+64 <= len(b); at += 64 {
		if !bytes.Equal(b[at:at+64], zero) {
			places = append(places, at)
		}
	}
	return places
}

// With checksums, no bit that turns changes what is listed: but for the content
// of files, which has none.
func TestNoTurnedBitOfMetadataIsBelieved(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a", "long name" + strings.Repeat("n", 200), "d/x", "d/y"} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, make([]byte, 1000*i), 0o644), os.Truncate(name, 100000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(strings.Repeat("t", 50), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(small(t, dir, "-O", "metadata_csum"))
	if err != nil {
		t.Fatal(err)
	}
	list := func(b []byte) (string, error) {
		f, err := ext.Open(mem{bytes.NewReader(b)})
		if err != nil {
			return "", err
		}
		var out bytes.Buffer
		err = fsreadtest.List(f, &out)
		return out.String(), err
	}
	want, err := list(whole)
	if err != nil {
		t.Fatal(err)
	}
	places, refused := used(whole), 0
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := bytes.Clone(whole)
		at := places[rng.IntN(len(places))] + rng.IntN(64)
		b[at] ^= 1 << rng.IntN(8)
		got, err := list(b)
		if err != nil {
			refused++
			continue
		}
		if got != want {
			t.Fatalf("byte %#x, block %d: another listing\n%s\n%s", at, at/1024, got, want)
		}
	}
	if refused < 100 {
		t.Errorf("%d of 3000 images are refused", refused)
	}
}

// A directory as long as a large image, all of it the same block.
func TestDirectoryThatHasABlockTwiceIsDamaged(t *testing.T) {
	for _, features := range []string{"^metadata_csum,^extent,^64bit", "^metadata_csum"} {
		img := small(t, someFiles(t), "-O", features)
		_, places, _ := strings.Cut(fsreadtest.Run(t, "debugfs", "-R", "blocks d", img), "\n")
		first := strings.Fields(places)[0]
		script := "sif d size 2048\nsif d block[1] " + first + "\n"
		if !strings.Contains(features, "^extent") { // one entry more in the root of the tree
			script = "sif d size 2048\nsif d block[0] 0x2f30a\nsif d block[6] 1\nsif d block[7] 1\nsif d block[8] " + first + "\n"
		}
		f := edit(t, img, script)
		d, err := f.Lookup(f.Root(), "d")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.ReadDir(d.ID, func(fsread.Entry) error { return nil }); !fsread.IsCorrupt(err) || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", features, err)
		}
	}
}

// Whatever is in an image, looking at it ends, and nothing that it says breaks
// the contract of file systems.
func FuzzDamagedImage(f *testing.F) {
	dir := someFiles(f)
	var images [][]byte
	for _, options := range [][]string{
		{"-O", "^metadata_csum"},
		{"-O", "^metadata_csum,inline_data,^has_journal", "-I", "256"},
		{"-O", "^metadata_csum,^extent,^64bit,^has_journal"},
		{"-O", "^metadata_csum,ea_inode,meta_bg,^resize_inode,bigalloc", "-C", "4096"},
		{"-O", "metadata_csum"},
	} {
		b, err := os.ReadFile(small(f, dir, options...))
		if err != nil {
			f.Fatal(err)
		}
		images = append(images, b)
	}
	dirty, blocks := journaled(f, "64bit,^metadata_csum")
	data := filepath.Join(f.TempDir(), "data")
	if err := os.WriteFile(data, make([]byte, 4096), 0o644); err != nil {
		f.Fatal(err)
	}
	debug(f, dirty, "jo\njw -b "+strings.Join(blocks[:3], ",")+" "+data+"\njw -r "+blocks[0]+"\njc\n")
	b, err := os.ReadFile(dirty)
	if err != nil {
		f.Fatal(err)
	}
	images = append(images, b)
	places := make([][]int, len(images))
	for i, b := range images {
		places[i] = used(b)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 60 {
		p := make([]byte, 4*(1+rng.IntN(8)))
		for j := range p {
			p[j] = byte(rng.Uint32())
		}
		f.Add(byte(i), p)
	}
	// Each change has four bytes: a place among those that are used, and what is
	// there then.
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		i := int(which) % len(images)
		img := bytes.Clone(images[i])
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(binary.LittleEndian.Uint16(changes)) * 7
			img[places[i][at/64%len(places[i])]+at%64] = changes[2]
			img[1024+int(changes[3])] ^= changes[2] & 1
		}
		r, err := ext.Open(mem{bytes.NewReader(img)})
		if err != nil {
			return
		}
		fsreadtest.Exhaust(t, r, fsreadtest.Budget{Files: 2000, Bytes: 64 << 10})
	})
}
