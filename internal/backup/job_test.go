package backup_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestMasterKeyOpensTheKeyOfTheSnapshot(t *testing.T) {
	master, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	k, created := key(t, 9), time.Unix(1_600_000_000, 0)
	m := repotest.New()
	j := encrypted(job(0, randomImage(rng(1), 3*chunk)), k)
	j.Master, j.KeyCreated, j.Notes = &master.PublicKey, created, "before the upgrade\nsecond line"
	run(t, m, j)

	s, err := m.Open(t.Context(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	f, ok := s.Manifest().File(string(names.RSAEncryptedKey))
	if !ok || f.CryptMode != manifest.ModeEncrypt {
		t.Fatalf("listed: %v, %s", ok, f.CryptMode)
	}
	sealed, err := s.Content(names.RSAEncryptedKey, nil) // plain: no key is needed
	if err != nil {
		t.Fatal(err)
	}
	got, when, err := keyfile.DecryptWithMaster(master, sealed)
	if err != nil || !got.Equal(k) || !when.Equal(created) {
		t.Fatalf("recovered %v of %v, %v", got, when, err)
	}
	if c := s.Manifest().Comment(); c != "before the upgrade" {
		t.Errorf("comment %q", c)
	}
}

func TestImpossibleJobsAreRefusedBeforeTheyBegin(t *testing.T) {
	img := randomImage(rng(1), chunk)
	for _, tc := range []struct {
		name   string
		change func(j *backup.Job)
		want   string
	}{
		{"no sources", func(j *backup.Job) { j.Sources = nil }, "nothing to back up"},
		{"twice", func(j *backup.Job) { j.Sources = append(j.Sources, j.Sources[0]) }, "named twice"},
		{"image as blob", func(j *backup.Job) { j.Sources[0].Name = "a.conf.blob" }, "ends in .img"},
		{"blob as image", func(j *backup.Job) { j.Sources[0] = backup.Source{Name: disk, Data: []byte("x")} }, "ends in .blob"},
		{"manifest", func(j *backup.Job) { j.Sources[0] = backup.Source{Name: names.Manifest} }, "meaning of its own"},
		{"bad name", func(j *backup.Job) { j.Sources[0].Name = "../a.img.fidx" }, "archive name"},
		{"map of a stream", func(j *backup.Job) {
			j.Sources[0] = backup.Source{Name: disk, Stream: image.NewStream(bytes.NewReader(nil), 5), Changes: &backup.ChangedMap{}}
		}, "at any offset"},
		{"no key", func(j *backup.Job) { j.Options.CryptMode = manifest.ModeEncrypt }, "needs an encryption key"},
		{"odd mode", func(j *backup.Job) { j.Options.CryptMode = "rot13" }, "unknown crypt mode"},
		{"odd chunk size", func(j *backup.Job) { j.Options.ChunkSize = 5000 }, "power of two"},
		{"huge chunk size", func(j *backup.Job) { j.Options.ChunkSize = 32 << 20 }, "power of two"},
		{"master without key", func(j *backup.Job) { j.Master = new(rsa.PublicKey) }, "master key"},
		{"bad id", func(j *backup.Job) { j.Snapshot.ID = "a/b" }, "backup id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := repotest.New()
			j := job(0, img)
			tc.change(&j)
			if _, err := backup.Run(t.Context(), m, j); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if m.Calls(repotest.OpBegin) != 0 {
				t.Error("it began")
			}
		})
	}
}

func TestBlobThatIsTooLargeIsRefused(t *testing.T) {
	m := repotest.New()
	big := make([]byte, 17<<20)
	rand.Read(big)
	j := job(0, nil)
	j.Sources[0] = backup.Source{Name: "dump.log.blob", Data: big}
	if _, err := backup.Run(t.Context(), m, j); err == nil || !strings.Contains(err.Error(), "too many for a small file") {
		t.Fatal(err)
	}
	clean(t, m)
}

// advised is a slow image that hears hints.
type advised struct {
	*memImage
	hints []image.Range
}

func (a *advised) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(time.Millisecond)
	return a.memImage.ReadAt(p, off)
}

func (a *advised) WillNeed(off, n int64) {
	a.hints = append(a.hints, image.Range{Offset: off, Length: n})
}

func TestSlowSourceIsToldWhatComesNextAndNeverAHole(t *testing.T) {
	img := &advised{memImage: randomImage(rng(3), 200*chunk+17)}
	run(t, repotest.New(), job(0, img))
	if len(img.hints) < 10 {
		t.Fatalf("%d hints", len(img.hints))
	}
	for _, h := range img.hints {
		e, err := img.ExtentAt(h.Offset / 4096 * 4096)
		if err != nil || e.Kind != image.Data || h.End() > e.End() || h.Length <= 0 {
			t.Errorf("hint %+v, extent %+v, %v", h, e, err)
		}
	}
}
