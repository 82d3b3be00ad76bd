package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestEveryByteOfEveryShapeIsInTheSnapshot(t *testing.T) {
	k := key(t, 7)
	for _, mode := range []manifest.CryptMode{manifest.ModeNone, manifest.ModeSignOnly, manifest.ModeEncrypt} {
		for i, size := range []int{1, chunk - 1, chunk, chunk + 1, 5 * chunk, 100*chunk + 4097, 64*chunk - 1} {
			for _, workers := range []int{1, 3} {
				t.Run(fmt.Sprintf("mode=%s/size=%d/workers=%d", mode, size, workers), func(t *testing.T) {
					img := randomImage(rng(uint64(i)), size)
					m := repotest.New()
					m.Runs = workers == 3
					var ck *chunkcrypt.Key
					if mode == manifest.ModeEncrypt {
						ck = k
					}
					run(t, m, backup.Job{
						Snapshot: at(0),
						Sources: []backup.Source{
							{Name: "a.img.fidx", Image: img},
							{Name: "b.img.fidx", Stream: image.NewStream(pipe{bytes.NewReader(img.b), rng(1)}, image.SizeUnknown)},
							{Name: "c.img.fidx", Stream: image.NewStream(bytes.NewReader(img.b), int64(size))},
							{Name: "vm.conf.blob", Data: []byte("cores: 2\n")},
							{Name: "empty.conf.blob"},
						},
						Options: backup.Options{ChunkSize: chunk, Workers: workers, CryptMode: mode, Key: k},
					})
					wantContent(t, m, 0, "a.img.fidx", ck, img.b)
					wantContent(t, m, 0, "b.img.fidx", ck, img.b)
					wantContent(t, m, 0, "c.img.fidx", ck, img.b)
					wantContent(t, m, 0, "vm.conf.blob", ck, []byte("cores: 2\n"))
					wantContent(t, m, 0, "empty.conf.blob", ck, nil)
					wantCrypt(t, m, mode, k)
				})
			}
		}
	}
}

// wantCrypt demands that chunks are encrypted or not, and the manifest signed
// or not, as the mode says.
func wantCrypt(t *testing.T, m *repotest.Memory, mode manifest.CryptMode, k *chunkcrypt.Key) {
	t.Helper()
	for d, raw := range m.Chunks {
		h, err := blob.ParseHeader(raw)
		if err != nil || h.Kind.Encrypted() != (mode == manifest.ModeEncrypt) {
			t.Fatalf("chunk %s is %v, %v", d, h.Kind, err)
		}
	}
	s, err := m.Open(t.Context(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	man := s.Manifest()
	if man.Signed() != (mode != manifest.ModeNone) {
		t.Errorf("signed: %v", man.Signed())
	}
	if err := man.Verify(k); err != nil {
		t.Error(err)
	}
	for _, f := range man.Files {
		if f.CryptMode != mode {
			t.Errorf("%s has mode %s", f.Filename, f.CryptMode)
		}
	}
}

func TestZerosAreStoredOnceAndNeverHashed(t *testing.T) {
	img := &memImage{b: make([]byte, 10*chunk+100)}
	m := repotest.New()
	j := job(0, img)
	j.Sources = append(j.Sources, backup.Source{Name: "other.img.fidx", Image: img})
	r := run(t, m, j)
	if got := counts(r.Total); got != [4]int64{22, 0, 0, 0} {
		t.Fatalf("counts %v", got)
	}
	if len(m.Chunks) != 2 || m.Calls(repotest.OpPut) != 2 {
		t.Fatalf("%d chunks, %d puts; want the zeros of a slot and of the short last one", len(m.Chunks), m.Calls(repotest.OpPut))
	}
	if _, ok := m.Chunks[digest.Of(make([]byte, chunk))]; !ok {
		t.Fatal("the chunk of zeros is not stored under its digest")
	}
	wantContent(t, m, 0, disk, nil, img.b)
}

func TestSecondBackupStoresExactlyWhatChanged(t *testing.T) {
	for _, k := range []*chunkcrypt.Key{nil, key(t, 1)} {
		crypt := func(j backup.Job) backup.Job {
			if k != nil {
				return encrypted(j, k)
			}
			return j
		}
		const slots = 40
		img := &memImage{b: make([]byte, slots*chunk+10)}
		fill(rng(1), img.b)
		m := repotest.New()
		if got := counts(run(t, m, crypt(job(0, img))).Total); got != [4]int64{0, 0, 0, slots + 1} {
			t.Fatalf("first: %v", got)
		}
		for _, slot := range []int{0, 17, slots} {
			img.b[slot*chunk+5]++
		}
		clear(img.b[3*chunk : 5*chunk])
		copy(img.b[9*chunk:10*chunk], img.b[20*chunk:21*chunk]) // known, at another place

		m.Reset()
		r := run(t, m, crypt(job(1, img)))
		if got := counts(r.Total); got != [4]int64{2, 0, slots + 1 - 5, 3} {
			t.Fatalf("second: %v", got)
		}
		if n := m.Calls(repotest.OpHas); n != 5 { // 3 new, 1 moved, 1 chunk of zeros
			t.Errorf("asked %d times for chunks that the previous index does not have", n)
		}
		if r.Previous != at(0).Path() || r.Archives[0].NotReused != "" {
			t.Errorf("previous %q, %q", r.Previous, r.Archives[0].NotReused)
		}
		wantContent(t, m, 1, disk, k, img.b)
	}
}

func TestUnchangedSlotsAreNotRead(t *testing.T) {
	const slots = 1500 // more than one batch of digests
	img := &memImage{b: make([]byte, slots*chunk+1000)}
	fill(rng(1), img.b)
	m := repotest.New()
	run(t, m, job(0, img))

	fill(rng(2), img.b[5*chunk+100:5*chunk+200])
	fill(rng(3), img.b[900*chunk-1:900*chunk+1]) // touches two
	j := job(1, img)
	j.Sources[0].Changes = &backup.ChangedMap{
		Base: at(0).Path(),
		Size: img.Size(),
		Extents: []backup.Dirty{
			{Offset: 900*chunk - 1, Length: 2},
			{Offset: 5*chunk + 100, Length: 100},
			{Offset: 5*chunk + 150, Length: 10},
			{Offset: slots*chunk + 10, Length: 0},
		},
	}
	img.reads.Store(0)
	r := run(t, m, j)
	if got := counts(r.Total); got != [4]int64{0, slots + 1 - 3, 0, 3} {
		t.Fatalf("counts %v", got)
	}
	if n := img.reads.Load(); n != 3*chunk || r.Total.Read != n {
		t.Errorf("read %d bytes, reported %d", n, r.Total.Read)
	}
	wantContent(t, m, 1, disk, nil, img.b)
}

func TestPreviousIsUsedOnlyWhereItsDigestsMeanTheSame(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	plain := func(j backup.Job) backup.Job { return j }
	crypt := func(k *chunkcrypt.Key) func(backup.Job) backup.Job {
		return func(j backup.Job) backup.Job { return encrypted(j, k) }
	}
	sign := func(j backup.Job) backup.Job {
		j.Options.CryptMode, j.Options.Key = manifest.ModeSignOnly, k1
		return j
	}
	for _, tc := range []struct {
		name        string
		first, then func(backup.Job) backup.Job
		reused      bool
		why         string
	}{
		{"plain", plain, plain, true, ""},
		{"same key", crypt(k1), crypt(k1), true, ""},
		{"plain to signed", plain, sign, false, "is not signed"},
		{"signed", sign, sign, true, ""},
		{"other key", crypt(k1), crypt(k2), false, "another key"},
		{"plain to encrypted", plain, crypt(k1), false, "is not encrypted"},
		{"signed to encrypted", sign, crypt(k1), false, "is not encrypted"},
		{"encrypted to plain", crypt(k1), plain, false, "no key"},
		{"encrypted to signed", crypt(k1), sign, false, "it is encrypted"},
		{"signed to unsigned", sign, plain, false, "no key"},
		{"other chunk size", plain, func(j backup.Job) backup.Job { j.Options.ChunkSize = 2 * chunk; return j }, false, "have 16384 bytes"},
		{"other name", plain, func(j backup.Job) backup.Job { j.Sources[0].Name = "new.img.fidx"; return j }, false, "no archive"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := &memImage{b: make([]byte, 4*chunk)}
			fill(rng(1), img.b)
			m := repotest.New()
			run(t, m, tc.first(job(0, img)))
			j := tc.then(job(1, img))
			j.Sources[0].Changes = &backup.ChangedMap{Base: at(0).Path(), Size: img.Size()}
			r := run(t, m, j)
			if got := r.Total.Unchanged.Chunks > 0; got != tc.reused {
				t.Errorf("reused: %v", got)
			}
			if why := r.Archives[0].NotReused; !strings.Contains(why, tc.why) || (why == "") != tc.reused {
				t.Errorf("reason %q", why)
			}
			var ck *chunkcrypt.Key
			if j.Options.CryptMode == manifest.ModeEncrypt {
				ck = j.Options.Key
			}
			wantContent(t, m, 1, j.Sources[0].Name, ck, img.b)
		})
	}
}

func TestImageThatGrewIsReadAndKnown(t *testing.T) {
	img := &memImage{b: make([]byte, 4*chunk+100), kinds: make([]image.Kind, 17)}
	fill(rng(1), img.b)
	m := repotest.New()
	run(t, m, job(0, img))
	grown := &memImage{b: append(bytes.Clone(img.b), make([]byte, chunk)...), kinds: make([]image.Kind, 21)}
	fill(rng(2), grown.b[4*chunk:])
	for i := range grown.kinds {
		grown.kinds[i] = image.Unchanged // a claim that cannot be true for all of it
	}
	r := run(t, m, job(1, grown))
	if got := counts(r.Total); got != [4]int64{0, 0, 4, 2} {
		t.Fatalf("counts %v", got)
	}
	wantContent(t, m, 1, disk, nil, grown.b)
}

func TestDamagedPreviousIndexIsReadPast(t *testing.T) {
	img := randomImage(rng(4), 20*chunk)
	m := repotest.New()
	run(t, m, job(0, img))
	old, err := m.Open(t.Context(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	old.File(disk)[4100] ^= 1
	r := run(t, m, job(1, img))
	if !strings.Contains(r.Archives[0].NotReused, "corrupt") {
		t.Errorf("reason %q", r.Archives[0].NotReused)
	}
	wantContent(t, m, 1, disk, nil, img.b)
}

func TestOneTebibyteOfHolesTakesNoTime(t *testing.T) {
	m := repotest.New()
	m.Runs = true
	j := job(0, holes(1<<40+5))
	j.Options = backup.Options{Workers: 2} // slots of 4 MiB
	start := time.Now()
	r := run(t, m, j)
	if took := time.Since(start); took > 5*time.Second { // 0.2 s on an idle machine
		t.Errorf("took %v", took)
	}
	if r.Total.Zero.Bytes != 1<<40+5 || r.Total.Read != 0 || len(m.Chunks) != 2 {
		t.Errorf("%+v, %d chunks", r.Total, len(m.Chunks))
	}
}

// holes is an image without data whose extents are short, as those of qcow2.
type holes int64

func (h holes) Size() int64                       { return int64(h) }
func (h holes) ReadAt([]byte, int64) (int, error) { return 0, errors.New("a hole was read") }
func (h holes) ExtentAt(o int64) (image.Extent, error) {
	return image.Extent{Offset: o, Length: min(512<<20, int64(h)-o), Kind: image.Zero}, nil
}

func TestEmptyImagesAreRefusedWithASentence(t *testing.T) {
	m := repotest.New()
	for _, src := range []backup.Source{
		{Name: disk, Image: &memImage{}},
		{Name: disk, Stream: image.NewStream(strings.NewReader(""), image.SizeUnknown)},
		{Name: disk, Stream: image.NewStream(strings.NewReader(""), 0)},
	} {
		_, err := backup.Run(t.Context(), m, backup.Job{Snapshot: at(0), Sources: []backup.Source{src}})
		if err == nil || !strings.Contains(err.Error(), "archive disk.img.fidx: the image is empty") {
			t.Errorf("got %v", err)
		}
		clean(t, m)
	}
}

func TestUnreadableSectorsAreInTheReport(t *testing.T) {
	img := &memImage{b: make([]byte, 3*chunk)}
	fill(rng(1), img.b)
	m := repotest.New()
	bad, err := image.NewBadSectors(image.Faulty{Image: img, Bad: chunk + 5000, Length: 1, Err: errIO}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, m, job(0, bad))
	if !r.Incomplete() || r.Archives[0].Unreadable.Total != 4096 {
		t.Fatalf("report %+v", r)
	}
	clear(img.b[chunk+4096 : chunk+8192])
	wantContent(t, m, 0, disk, nil, img.b)
}

func TestShrinkingImageIsAnError(t *testing.T) {
	img := &memImage{b: make([]byte, 3*chunk)}
	fill(rng(1), img.b)
	m := repotest.New()
	_, err := backup.Run(t.Context(), m, job(0, longer{img}))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), fmt.Sprint("offset ", 3*chunk)) {
		t.Fatalf("got %v", err)
	}
	clean(t, m)
}

// longer promises more than there is.
type longer struct{ *memImage }

func (l longer) Size() int64 { return l.memImage.Size() + 5000 }

func (l longer) ExtentAt(off int64) (image.Extent, error) {
	return image.Extent{Offset: off, Length: l.Size() - off}, nil
}

func TestReadRateIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := &memImage{b: make([]byte, 64*chunk)}
		fill(rng(1), img.b)
		for _, stream := range []bool{false, true} {
			j := job(0, img)
			if stream {
				j.Sources[0] = backup.Source{Name: disk, Stream: image.NewStream(bytes.NewReader(img.b), img.Size())}
			}
			j.Options.Rate = int64(len(img.b)) / 10
			r := run(t, repotest.New(), j)
			if s := r.Elapsed.Seconds(); s < 8.5 || s > 10.5 {
				t.Errorf("stream %v: took %.1f s, want 10 less the first burst", stream, s)
			}
		}
	})
}

func TestStreamThatHangsDoesNotHoldUpCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("the user pressed a key")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(stop) })
		r, w := io.Pipe()
		start := time.Now()
		m := repotest.New()
		j := job(0, nil)
		j.Sources[0] = backup.Source{Name: disk, Stream: image.NewStream(r, image.SizeUnknown)}
		_, err := backup.Run(ctx, m, j)
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		if late := time.Since(start) - time.Minute; late > time.Second {
			t.Errorf("returned %v after cancellation", late)
		}
		_ = w.Close() // now the read returns
		synctest.Wait()
		clean(t, m)
	})
}
