package tapefile_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

func FuzzParseBlock(f *testing.F) {
	f.Add(block(tapefile.BlockHeader{Seq: 5}, []byte("x"))[:64])
	f.Add(block(tapefile.BlockHeader{Last: true, Incomplete: true}, nil)[:64])
	f.Fuzz(func(t *testing.T, start []byte) {
		b := make([]byte, tapefile.BlockSize)
		copy(b, start)
		h, err := tapefile.ParseBlock(b)
		if err != nil {
			return
		}
		h.Put(b)
		if again, err := tapefile.ParseBlock(b); err != nil || again != h {
			t.Fatalf("%+v comes back as %+v, %v", h, again, err)
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	for _, b := range goldenFiles(f) {
		f.Add(b)
	}
	snap, err := tapefile.SnapshotArchive{Store: "store1", Snapshot: snapshot(f, "ns/a/vm/100/2023-11-14T22:13:20Z")}.Header(content(4), 1)
	f.Add(appendHeader(f, snap, err))
	f.Add(appendHeader(f, tapefile.CatalogArchive{Medium: medium, MediaSet: mediaSet, Seq: 2}.Header(content(5), 1, true), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := tapefile.ReadHeader(r)
		if err != nil {
			return
		}
		raw, err := h.Append(nil)
		if err != nil || len(raw) != len(b)-r.Len() {
			t.Fatalf("%d of %d bytes were read, %d come back, %v", len(b)-r.Len(), len(b), len(raw), err)
		}
		again, err := rewrite(h)
		if err != nil {
			return
		}
		if twice, err := rewrite(again); err != nil || !bytes.Equal(twice.JSON, again.JSON) {
			t.Fatalf("%s is written as %s and then as %s, %v", h.JSON, again.JSON, twice.JSON, err)
		}
	})
}

// rewrite reads what a header says and writes it again.
func rewrite(h tapefile.Header) (tapefile.Header, error) {
	switch {
	case h.Content == tapefile.MediumLabel:
		l, err := h.Label()
		if err != nil {
			return h, err
		}
		return l.Header(h.UUID, h.Ctime)
	case h.Content == tapefile.MediaSetLabel:
		l, key, err := h.SetLabel()
		if err != nil {
			return h, err
		}
		return l.Header(h.UUID, h.Ctime, key)
	case h.Content == tapefile.Chunks:
		a, err := h.ChunkArchive()
		if err != nil {
			return h, err
		}
		return a.Header(h.UUID, h.Ctime)
	case h.Content.IsSnapshot():
		a, err := h.SnapshotArchive()
		if err != nil {
			return h, err
		}
		return a.Header(h.UUID, h.Ctime)
	}
	a, err := h.CatalogArchive()
	return a.Header(h.UUID, h.Ctime, false), err
}

func FuzzChunkReader(f *testing.F) {
	file := goldenFiles(f)["chunk archive"]
	_, r := readHeader(f, file)
	f.Add(file[len(file)-r.Len():])
	f.Fuzz(func(t *testing.T, b []byte) {
		var back []byte
		c := tapefile.NewChunkReader(bytes.NewReader(b))
		for {
			d, raw, err := c.Next(nil)
			if err != nil {
				break
			}
			back = append(tapefile.AppendChunkHeader(back, d, len(raw)), raw...)
		}
		if !bytes.HasPrefix(b, back) {
			t.Fatal("chunks come back changed")
		}
	})
}
