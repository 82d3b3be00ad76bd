//go:build linux

package backupclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// memory is an image in memory.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

// noise, with zeros in between.
func noise(seed byte, n int) memory {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	for part := range slices.Chunk(b, 2<<20) {
		clear(part[len(part)/2:])
	}
	return b
}

// makeTree makes a directory with files of several sizes, all of one time.
func makeTree(t *testing.T, round int) string {
	t.Helper()
	root := t.TempDir()
	for i := range 30 {
		name := filepath.Join(root, fmt.Sprintf("dir%d", i%3), fmt.Sprintf("file%d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		size := i * i * 997
		if i == 29 {
			size = 9 << 20
		}
		seed := byte(i)
		if i < 5 {
			seed += byte(100 * round)
		}
		if err := os.WriteFile(name, noise(seed, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1_600_000_000, 0)
	err := filepath.WalkDir(root, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, when, when)
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// job backs up something of every kind. Round 1 changes a part of it.
func job(t *testing.T, round int, key *chunkcrypt.Key, tree string) backup.Job {
	img := noise(1, 22<<20+12345)
	if round > 0 {
		copy(img[5<<20:], "this was changed")
	}
	j := backup.Job{
		Snapshot: at(vm100, int64(round)),
		Sources: []backup.Source{
			{Name: "drive-scsi0.img.fidx", Image: img},
			{Name: "stream.img.fidx", Stream: image.NewStream(bytes.NewReader(noise(byte(9+round), 9<<20+1)), image.SizeUnknown)},
			{Name: "root.pxar.didx", Tree: &backup.Tree{Path: tree, Detection: backup.DetectMetadata}},
			{Name: "old.pxar.didx", Tree: &backup.Tree{Path: tree, Detection: backup.DetectLegacy}},
			{Name: "vm.conf.blob", Data: []byte("memory: 512\n")},
		},
		Notes:   "notes\nof two lines",
		Options: backup.Options{Workers: 1, Rand: rand.NewChaCha8([32]byte{byte(round)})},
	}
	if key != nil {
		j.Options.Key, j.Options.CryptMode = key, manifest.ModeEncrypt
	}
	return j
}

func TestBackupOverTheWireStoresTheSameBytes(t *testing.T) {
	key, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	trees := []string{makeTree(t, 0), makeTree(t, 1)}
	for name, key := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": key} {
		t.Run(name, func(t *testing.T) {
			local, far := store(t), store(t)
			wire := &server{t: t, store: far}
			wire.opts.Reader = func(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) { return far.Open(ctx, n) }
			for round := range 2 {
				here, err := backup.Run(t.Context(), local, job(t, round, key, trees[round]))
				if err != nil {
					t.Fatal(err)
				}
				there, err := backup.Run(t.Context(), wire, job(t, round, key, trees[round]))
				if err != nil {
					t.Fatal(err)
				}
				if err := wire.ended(); err != nil {
					t.Fatalf("the server's side: %v", err)
				}
				if here.Total.Stored != there.Total.Stored || here.Total.Known != there.Total.Known || here.Total.Unchanged != there.Total.Unchanged {
					t.Errorf("round %d: stored %v, known %v, unchanged %v; locally %v, %v, %v", round,
						there.Total.Stored, there.Total.Known, there.Total.Unchanged, here.Total.Stored, here.Total.Known, here.Total.Unchanged)
				}
				if diff := cmp.Diff(brief(files(t, local)), brief(files(t, far))); diff != "" {
					t.Fatalf("round %d: files differ (-local +wire):\n%s", round, diff)
				}
			}
			verify(t, far, 2)
		})
	}
}

// brief makes a difference short enough to be looked at.
func brief(all map[string]string) map[string]string {
	out := map[string]string{}
	for name, content := range all {
		if len(content) > 4096 {
			content = fmt.Sprintf("%d bytes, %x", len(content), sha256.Sum256([]byte(content)))
		}
		out[name] = content
	}
	return out
}
