package ext_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// journaled makes a small file system with the file f of 200 blocks, whose places
// it gives.
func journaled(t testing.TB, features string) (img string, blocks []string) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "f"), bytes.Repeat([]byte("as it was\n"), 20480), 0o644); err != nil {
		t.Fatal(err)
	}
	img = fsreadtest.Make(t, 8*mib, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, "-J", "size=1", "-d", root)
	out := fsreadtest.Run(t, "debugfs", "-R", "blocks f", img)
	_, out, _ = strings.Cut(out, "\n") // its version
	return img, strings.Fields(out)
}

// debug runs a script of debugfs.
func debug(t testing.TB, img, script string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(name, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := fsreadtest.Run(t, "debugfs", "-w", "-f", name, img); strings.Contains(out, "rror") {
		t.Fatalf("debugfs: %s", out)
	}
}

// Journals of all kinds that debugfs can write, read by us and replayed by e2fsck.
func TestJournalsCountAsE2fsckReplaysThem(t *testing.T) {
	for _, features := range []string{"64bit,metadata_csum", "^64bit,metadata_csum", "64bit,^metadata_csum", "^64bit,^metadata_csum"} {
		for _, kind := range []string{"jo", "jo -c -v 2", "jo -c -v 3"} {
			if strings.Contains(features, "^metadata") != (kind == "jo") {
				continue
			}
			t.Run(features+" "+kind, func(t *testing.T) {
				img, blocks := journaled(t, features)
				for seed := range uint64(6) {
					dirty := copyOf(t, img)
					debug(t, dirty, kind+"\n"+transactions(t, blocks, seed)+"jc\n")
					got := contentOf(t, dirty, "f")
					if out, err := exec.Command("e2fsck", "-y", "-E", "journal_only", dirty).CombinedOutput(); err != nil && err.(*exec.ExitError).ExitCode() > 1 {
						t.Fatalf("e2fsck: %v: %s", err, out)
					}
					want := contentOf(t, dirty, "f")
					if !bytes.Equal(got, want) {
						t.Errorf("seed %d: other bytes than after e2fsck", seed)
					}
					if bytes.Equal(got, contentOf(t, img, "f")) {
						t.Errorf("seed %d: the journal changes nothing", seed)
					}
				}
			})
		}
	}
}

// transactions are some that write and revoke blocks at random; the last one is
// not committed.
func transactions(t *testing.T, blocks []string, seed uint64) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	some := func(most int) string {
		var all []string
		for range 1 + rng.IntN(most) {
			all = append(all, blocks[rng.IntN(len(blocks))])
		}
		return strings.Join(all, ",")
	}
	var script strings.Builder
	for i := range 12 {
		name := filepath.Join(t.TempDir(), "data")
		data := bytes.Repeat(fmt.Appendf(nil, "by %03d %d\n", i, seed), 2000)
		if i%3 == 0 { // blocks that look like the journal's
			for at := 0; at < len(data); at += 1024 {
				copy(data[at:], "\xc0\x3b\x39\x98\x00\x00\x00\x02")
			}
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 11:
			fmt.Fprintf(&script, "jw -b %s -c %s\n", some(10), name)
		case i%4 == 3:
			fmt.Fprintf(&script, "jw -r %s\n", some(40))
		default:
			fmt.Fprintf(&script, "jw -b %s %s\n", some(16), name)
		}
	}
	return script.String()
}

func contentOf(t *testing.T, img, name string) []byte {
	t.Helper()
	f, err := ext.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return content(t, f, name)
}

func content(t *testing.T, f *ext.FS, name string) []byte {
	t.Helper()
	e, err := f.Lookup(f.Root(), name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each byte of a journal that is damaged is noticed or does not count.
func TestDamagedJournalIsNeverReadAsGood(t *testing.T) {
	img, blocks := journaled(t, "64bit,metadata_csum")
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, bytes.Repeat([]byte("new\n"), 2048), 0o644); err != nil {
		t.Fatal(err)
	}
	debug(t, img, fmt.Sprintf("jo -c -v 3\njw -b %s %s\njw -r %s\njc\n", strings.Join(blocks[:4], ","), data, blocks[1]))
	want := contentOf(t, img, "f")
	whole, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	_, places, _ := strings.Cut(fsreadtest.Run(t, "debugfs", "-R", "blocks <8>", img), "\n")
	at := 0
	if _, err := fmt.Sscan(places, &at); err != nil {
		t.Fatal(err)
	}
	at *= 1024
	refused := 0
	for off := at; off < at+9*1024; off += 13 {
		b := bytes.Clone(whole)
		b[off] ^= 0x40
		f, err := ext.Open(mem{bytes.NewReader(b)})
		if err != nil {
			refused++
			continue
		}
		e, err := f.Lookup(f.Root(), "f")
		if err != nil {
			t.Fatal(err)
		}
		c, err := f.Open(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		switch {
		case fsread.IsCorrupt(err):
			refused++
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(got, want) && off < at+1024:
			t.Fatalf("byte %d of the superblock: other content", off-at)
		case !bytes.Equal(got, want) && !headOnly(off-at):
			t.Fatalf("byte %d of the journal: other content", off-at)
		}
	}
	if refused < 300 {
		t.Errorf("%d damaged journals are refused", refused)
	}
}

// headOnly reports a byte of a magic, a kind or a number of a block: one that
// differs is the end of the journal, for the kernel too.
func headOnly(off int) bool { return off%1024 < 12 }

func TestSeparateJournalIsRefusedWhileItHoldsWork(t *testing.T) {
	img, _ := journaled(t, "64bit")
	fsreadtest.Run(t, "debugfs", "-w", "-R", "ssv journal_inum 0", img)
	if f, err := ext.Open(fsreadtest.OpenFile(t, img)); err != nil || f.About().Notices != nil {
		t.Fatalf("clean: %v", err)
	}
	fsreadtest.Run(t, "debugfs", "-w", "-R", "feature needs_recovery", img)
	_, err := ext.Open(fsreadtest.OpenFile(t, img))
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "separate journal") {
		t.Fatalf("err = %v", err)
	}
	journal := fsreadtest.Make(t, 4*mib, "mke2fs", "-q", "-F", "-O", "journal_dev", "-b", "1024")
	_, err = ext.Open(fsreadtest.OpenFile(t, journal))
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "separate journal") {
		t.Fatalf("the journal itself: %v", err)
	}
}
