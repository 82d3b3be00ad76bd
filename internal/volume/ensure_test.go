package volume

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

var (
	image1 = digest.Of([]byte("image1"))
	image2 = digest.Of([]byte("image2"))
)

func full(s volumeheader.State, d digest.Digest) *volumeheader.Header {
	h := volumeheader.Full(volumeheader.Record{State: s, Size: 1024, Start: 512, Changed: 1, Digest: d})
	return &h
}

func short(d digest.Digest) *volumeheader.Header {
	h := volumeheader.Short(d)
	return &h
}

func TestEnsure(t *testing.T) {
	for _, tc := range []struct {
		name string
		have *volumeheader.Header
		want Outcome
	}{
		{"on an empty device writes", nil, Written},
		{"of another image writes", short(image2), Written},
		{"of the same image matches", short(image1), Match},
		{"of a complete image matches", full(volumeheader.Complete, image1), Match},
		{"of a guest's disk matches", full(volumeheader.Used, image1), Match},
		{"of an interrupted restore writes", full(volumeheader.Filling, image1), Written},
		{"of another restore writes", full(volumeheader.Complete, image2), Written},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := has(4*512, tc.have)
			before := bytes.Clone(d.b)
			got, err := ensureOn(d, on(d), image1, 1024)
			if err != nil || got != tc.want {
				t.Fatalf("%s, %v", got, err)
			}
			if tc.want == Match {
				if d.writes != 0 || !bytes.Equal(d.b, before) {
					t.Error("a device that matches was written to")
				}
				return
			}
			if h := header(t, d); h != volumeheader.Short(image1) || d.syncs == 0 {
				t.Errorf("%+v, %d syncs", h, d.syncs)
			}
			if !bytes.Equal(d.b[512:], before[512:]) {
				t.Error("the payload was changed")
			}
		})
	}
}

func TestEnsureTouchesNoLaterVersion(t *testing.T) {
	for _, d := range []digest.Digest{image1, image2} {
		dev := has(2*512, short(image1))
		dev.b[9] = 3
		before := bytes.Clone(dev.b)
		_, err := ensureOn(dev, on(dev), d, 1<<40) // too large as well: the version counts first
		if v, ok := errors.AsType[*volumeheader.VersionError](err); !ok || v.Version != 3 || !bytes.Equal(dev.b, before) {
			t.Errorf("%v", err)
		}
	}
}

func TestImageMustFitBehindTheHeader(t *testing.T) {
	for _, tc := range []struct {
		device, image int64
		fits          bool
	}{
		{4 * 512, 1024, true},
		{8704, 8192, true}, // 16 + 1 sectors, exactly
		{8704, 8193, false},
		{8704, 10000, false},
		{4096, 8192, false},
		{512, 0, true},
		{511, 0, false},
		{1000, 1, false}, // a sector and a part of one
		{0, 0, false},
		{1 << 40, -1, false},
	} {
		err := place{path: "/dev/x", size: tc.device}.fits(512, tc.image)
		if (err == nil) != tc.fits {
			t.Errorf("%d bytes on %d: %v", tc.image, tc.device, err)
		}
	}
	err := place{path: "/dev/x", size: 4096}.fits(512, 8000)
	const want = "/dev/x is too small: it has 4096 bytes (8 sectors), and an image of 8000 bytes with the header needs 8704 (17 sectors)"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestEnsureLooksAtTheSizeBeforeItWrites(t *testing.T) {
	for _, have := range []*volumeheader.Header{nil, short(image1), short(image2)} {
		d := has(4096, have)
		before := bytes.Clone(d.b)
		_, err := ensureOn(d, on(d), image1, 8192)
		if _, ok := errors.AsType[*TooSmallError](err); !ok || !bytes.Equal(d.b, before) {
			t.Errorf("%v", err)
		}
	}
}

func TestEnsureReportsWhatFails(t *testing.T) {
	for _, op := range []string{"read", "write", "sync"} {
		d := broken{has(4096, nil), op}
		if out, err := ensureOn(d, on(d), image1, 0); err == nil || !strings.Contains(err.Error(), "the header: broken "+op) {
			t.Errorf("%s: %s, %v", op, out, err)
		}
	}
}

// broken is a device one of whose calls fails.
type broken struct {
	*memory
	op string
}

func (b broken) fails(op string) error {
	if op == b.op {
		return errors.New("broken " + op)
	}
	return nil
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if err := b.fails("read"); err != nil {
		return 0, err
	}
	return b.memory.ReadAt(p, off)
}

func (b broken) WriteAt(p []byte, off int64) (int, error) {
	if err := b.fails("write"); err != nil {
		return 0, err
	}
	return b.memory.WriteAt(p, off)
}

func (b broken) Sync() error {
	if err := b.fails("sync"); err != nil {
		return err
	}
	return b.memory.Sync()
}
