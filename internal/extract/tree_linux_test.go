package extract_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// node is a tree as tests think of one.
type node struct {
	pxar.Entry
	content []byte
	kids    []*node
	first   *node // of a hard link
}

func dir(name string, kids ...*node) *node {
	return &node{Entry: entry(name, pxar.Directory, pxar.ModeDirectory|0o755), kids: kids}
}

func file(name, content string) *node {
	return &node{Entry: entry(name, pxar.File, pxar.ModeFile|0o644), content: []byte(content)}
}

func symlink(name, target string) *node {
	n := &node{Entry: entry(name, pxar.Symlink, pxar.ModeSymlink|0o777)}
	n.Target = target
	return n
}

func hardlink(name string, first *node, target string) *node {
	n := &node{Entry: pxar.Entry{Name: name, Kind: pxar.Hardlink}, first: first}
	n.Target = target
	return n
}

func entry(name string, kind pxar.Kind, mode uint32) pxar.Entry {
	return pxar.Entry{Name: name, Kind: kind, Metadata: pxar.Metadata{Mode: mode, UID: uid, GID: gid, Mtime: pxar.Time{Sec: 1_600_000_000, Nsec: 987_654_321}}}
}

func (n *node) encode(w *pxar.Writer) error {
	switch n.Kind {
	case pxar.Directory:
		if err := w.BeginDir(&n.Entry); err != nil {
			return err
		}
		for _, k := range n.kids {
			if err := k.encode(w); err != nil {
				return err
			}
		}
		return w.EndDir()
	case pxar.File:
		n.Size = int64(len(n.content))
		c, err := w.AddFile(&n.Entry, bytes.NewReader(n.content))
		if err == nil && c != (pxar.Content{}) {
			err = fmt.Errorf("content %+v", c)
		}
		return err
	case pxar.Hardlink:
		n.Link = n.first.Offset
	}
	return w.Add(&n.Entry)
}

// encoded is an archive in memory.
type encoded struct {
	meta, payload []byte
}

// encode makes an archive of version 1 or 2.
func encode(t testing.TB, n *node, version int) encoded {
	t.Helper()
	var m, p bytes.Buffer
	o := pxar.WriterOptions{}
	if version == 2 {
		o.Payload = &p
	}
	w := pxar.NewWriter(&m, o)
	if err := errors.Join(n.encode(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return encoded{m.Bytes(), p.Bytes()}
}

func (a encoded) reader(t testing.TB) *pxar.Reader {
	t.Helper()
	var r *pxar.Reader
	var err error
	if a.payload == nil {
		r, err = pxar.NewReader(bytes.NewReader(a.meta), nil)
	} else {
		r, err = pxar.NewReader(bytes.NewReader(a.meta), bytes.NewReader(a.payload))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (a encoded) archive(t testing.TB) *pxar.Archive {
	t.Helper()
	var r *pxar.Archive
	var err error
	if a.payload == nil {
		r, err = pxar.OpenArchive(bytes.NewReader(a.meta), int64(len(a.meta)), nil, 0)
	} else {
		r, err = pxar.OpenArchive(bytes.NewReader(a.meta), int64(len(a.meta)), bytes.NewReader(a.payload), int64(len(a.payload)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (a encoded) walker(t testing.TB, s extract.Selection) *extract.Walker {
	t.Helper()
	w, err := extract.Walk(a.archive(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
