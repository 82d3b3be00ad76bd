package volume

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

const imageSize = 9*chunk + 700

func TestFillMakesAVolumeOfAnyDevice(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	s := save(t, m, 1, image)
	for _, have := range []*volumeheader.Header{nil, short(image2), full(volumeheader.Used, image2), full(volumeheader.Filling, image1)} {
		d := has(imageSize+5000, have)
		tail := bytes.Clone(d.b[512+imageSize:])
		done := mustFill(t, d, s, FillOptions{})
		if done.Kept || done.Resumed || done.Restore.Size != imageSize {
			t.Errorf("%+v", done)
		}
		wantImage(t, d, image)
		if !bytes.Equal(d.b[512+imageSize:], tail) {
			t.Error("what lies behind the image was changed")
		}
		h := header(t, d)
		if r := h.Record; r.Repository != "memory" || r.Snapshot != at(1) || r.Archive != disk || r.Changed != someday().Unix() || h != done.Header && *r != *done.Header.Record {
			t.Errorf("%+v", r)
		}
	}
}

func TestFillWithWhatIsThereWritesNothing(t *testing.T) {
	m := repotest.New()
	image := content(1, imageSize)
	s, same := save(t, m, 1, image), save(t, m, 2, image) // another day, and nothing has changed
	d := has(imageSize+5000, nil)
	mustFill(t, d, s, FillOptions{})
	d.writes = 0
	done := mustFill(t, d, same, FillOptions{})
	if !done.Kept || d.writes != 0 || done.Header.Record.Snapshot != at(1) {
		t.Errorf("%+v, %d writes", done, d.writes)
	}
}

func TestGuestsDiskIsKeptUnlessTheImageIsAskedFor(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	s := save(t, m, 1, image)
	d := has(imageSize+5000, nil)
	done := mustFill(t, d, s, FillOptions{})
	used := *done.Header.Record
	used.State = volumeheader.Used
	volumeheader.Full(used).Put(d.b)
	copy(d.b[70_000:], "written by the guest")
	before := bytes.Clone(d.b)
	if done = mustFill(t, d, s, FillOptions{}); !done.Kept || !bytes.Equal(d.b, before) {
		t.Errorf("%+v: what the guest wrote is gone", done)
	}
	if done = mustFill(t, d, s, FillOptions{Again: true}); done.Kept || done.Restore.Stats.Written > 64<<10 {
		t.Errorf("%+v", done)
	}
	wantImage(t, d, image)
}

func TestPayloadKeepsItsPlace(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	s := save(t, m, 1, image)
	d := has(Aligned+imageSize+5000, nil)
	mustFill(t, d, s, FillOptions{Aligned: true})
	if h := header(t, d); h.Start() != Aligned || h.Version() != 2 {
		t.Errorf("%+v", h)
	}
	wantImage(t, d, image)
	later := changed(2, image)
	done := mustFill(t, d, save(t, m, 2, later), FillOptions{})
	if h := header(t, d); h.Start() != Aligned || done.Restore.Stats.Written > 300_000 {
		t.Errorf("%+v %+v", h, done.Restore.Stats)
	}
	wantImage(t, d, later)
	// Larger sectors leave no choice.
	d = has(Aligned+imageSize+5000, nil)
	f, err := newFilling(place{path: "x", size: d.Size(), logical: 4096}, s, one(FillOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.on(t.Context(), d); err != nil || header(t, d).Start() != Aligned {
		t.Error(err)
	}
}

// recording notes where writes begin and end.
type recording struct {
	*memory
	ends []int64
}

func (r *recording) WriteAt(p []byte, off int64) (int, error) {
	r.ends = append(r.ends, off, off+int64(len(p)))
	return r.memory.WriteAt(p, off)
}

func TestChangesAreWrittenInPagesOfTheDevice(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	later := bytes.Clone(image)
	for _, off := range []int{0, 5000, chunk - 1, 3*chunk + 4096, 3*chunk + 4096 + 40_000, imageSize - 1} {
		later[off] ^= 0x80
	}
	for _, aligned := range []bool{false, true} {
		d := &recording{memory: has(Aligned+imageSize+5000, nil)}
		mustFill(t, d, save(t, m, 1, image), FillOptions{Aligned: aligned})
		d.ends = nil
		mustFill(t, d, save(t, m, 2, later), FillOptions{})
		wantImage(t, d, later)
		start := header(t, d).Start()
		for _, at := range d.ends {
			if in := at - start; at%4096 != 0 && at > volumeheader.Size && in%chunk != 0 && in != imageSize {
				t.Errorf("aligned %v: a write begins or ends at byte %d, in the middle of a page", aligned, at)
			}
		}
		if n := len(d.ends) / 2; n < 6 {
			t.Errorf("%d writes", n)
		}
		m = repotest.New()
	}
}

func TestBaseIsTakenOnlyWhereTheHeaderVouchesForIt(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	later := changed(2, image)
	a, b := save(t, m, 1, image), save(t, m, 2, later)
	base := FillOptions{Restore: restore.Options{Base: a.Snapshot}}
	d := has(imageSize+5000, nil)
	mustFill(t, d, a, FillOptions{})
	if done := mustFill(t, d, b, base); done.Restore.Stats.Same.Bytes == 0 {
		t.Errorf("%+v", done.Restore.Stats)
	}
	wantImage(t, d, later)
	r := *header(t, d).Record
	other := save(t, m, 3, changed(9, image))
	for _, tc := range []struct {
		have *volumeheader.Header
		says string
	}{
		{nil, "no header"},
		{short(r.Digest), "no header"},
		{full(volumeheader.Complete, image1), "another image"},
		{full(volumeheader.Used, mustDigest(t, a)), "its state is used"},
		{full(volumeheader.Filling, mustDigest(t, a)), "its state is filling"},
	} {
		d := has(imageSize+5000, tc.have)
		before := bytes.Clone(d.b)
		_, err := fill(t, d, other, base)
		if err == nil || !strings.Contains(err.Error(), tc.says) || !bytes.Equal(d.b, before) {
			t.Errorf("%s: %v", tc.says, err)
		}
	}
}

func TestFillThatFailsLeavesTheStateFilling(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	s := save(t, m, 1, image)
	for _, after := range []int{0, 1, 4} {
		d := has(imageSize+5000, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		f, err := newFilling(on(d), s, one(FillOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		enough := errors.New("enough")
		_, err = f.on(ctx, &watched{memory: d, after: after, call: func() { cancel(enough) }})
		if !errors.Is(err, enough) {
			t.Fatalf("after %d writes: %v", after, err)
		}
		if h := header(t, d); h.Record.State != volumeheader.Filling || h.Holds(mustDigest(t, s)) {
			t.Errorf("after %d writes: %+v", after, h)
		}
		if done := mustFill(t, d, s, FillOptions{}); !done.Resumed {
			t.Errorf("%+v", done)
		}
		wantImage(t, d, image)
	}
}

// watched calls when there were more than so many writes.
type watched struct {
	*memory
	after int
	call  func()
}

func (w *watched) WriteAt(p []byte, off int64) (int, error) {
	if w.writes >= w.after {
		w.call()
	}
	return w.memory.WriteAt(p, off)
}

func TestFillRefusesBeforeItTouchesAnything(t *testing.T) {
	m, image := repotest.New(), content(1, imageSize)
	s := save(t, m, 1, image)
	newer := has(imageSize+5000, short(image1))
	newer.b[9] = 9
	for name, d := range map[string]*memory{"too small": has(imageSize, nil), "version 9": newer} {
		before := bytes.Clone(d.b)
		if _, err := fill(t, d, s, FillOptions{}); err == nil || !strings.Contains(err.Error(), name) || !bytes.Equal(d.b, before) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newFilling(place{}, s, FillOptions{Restore: restore.Options{AllowHoles: true}}); err == nil {
		t.Error("a volume with holes")
	}
	s.Archive = "other.img.fidx"
	if _, err := newFilling(place{}, s, FillOptions{}); err == nil {
		t.Error("an archive that is not there")
	}
}
