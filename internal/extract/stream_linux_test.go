package extract_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// rich is a sample with what only root can make and what tar can hold.
func rich() *node {
	tree := sample()
	tree.kids = append(tree.kids,
		&node{Entry: device("null", pxar.CharDevice, pxar.ModeCharDevice|0o666, 1, 3)},
		&node{Entry: device("loop", pxar.BlockDevice, pxar.ModeBlockDevice|0o660, 7, 1<<18-1)},
	)
	caps := file("capable", "#!/bin/true")
	caps.Mode |= 0o6111
	caps.UID, caps.GID = 1234, 99_999_999
	caps.Mtime = pxar.Time{Sec: -1, Nsec: 500_000_000}
	caps.FCaps = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	caps.Xattrs = []pxar.Xattr{{Name: "trusted.empty"}, {Name: "user.bytes", Value: []byte("\x00\xff=\n")}}
	caps.ACL = &pxar.ACL{Users: []pxar.ACLEntry{{ID: 1, Perm: 5}, {ID: 12345, Perm: 6}}, Groups: []pxar.ACLEntry{{ID: 7, Perm: 7}}, GroupObj: new(pxar.Perm(4))}
	shared := dir("shared")
	shared.Mode |= 0o3000
	shared.ACL = &pxar.ACL{Default: &pxar.ACLDefault{UserObj: 7, GroupObj: 5, Other: 0, Mask: 7}, DefaultUsers: []pxar.ACLEntry{{ID: 5, Perm: 7}}}
	shared.Xattrs = []pxar.Xattr{{Name: "user.of a directory", Value: []byte("x")}}
	tree.kids = append(tree.kids, caps, shared)
	return tree.sorted()
}

func device(name string, kind pxar.Kind, mode uint32, major, minor uint64) pxar.Entry {
	e := entry(name, kind, mode)
	e.Device = pxar.Device{Major: major, Minor: minor}
	return e
}

func rootOnly(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners and devices are root's to give")
	}
}

// without removes the entries of a kind.
func (n *node) without(kind pxar.Kind) *node {
	var kids []*node
	for _, k := range n.kids {
		if k.Kind != kind {
			kids = append(kids, k.without(kind))
		}
	}
	n.kids = kids
	return n
}

func TestGNUTarRestoresWhatTarWrites(t *testing.T) {
	rootOnly(t)
	tree := rich()
	a := encode(t, tree, 2)
	target := t.TempDir()
	path := filepath.Join(t.TempDir(), "a.tar")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	problems := 0
	src := a.walker(t, extract.Selection{Metadata: true})
	res, err := extract.Tar(t.Context(), src, out, extract.StreamOptions{Problem: func(p extract.Problem) {
		problems++
		if p.Path != "/dir/socket" || !errors.Is(p.Err, extract.ErrForm) {
			t.Errorf("%s", p)
		}
	}})
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	if problems != 1 || res.Failed != (extract.Count{Sockets: 1}) || res.Made.Files != res.Asked.Files || res.NotSet != [filemeta.Kinds]extract.Missed{} {
		t.Errorf("%d problems, %+v", problems, res)
	}
	if text, err := exec.Command("tar", "-xp", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-f", path, "-C", target).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	compare(t, tree.without(pxar.Socket), target)
}

func TestZipHoldsFilesLinksAndModes(t *testing.T) {
	tree := sample()
	a := encode(t, tree, 1)
	var out bytes.Buffer
	res, err := extract.Zip(t.Context(), a.walker(t, extract.Selection{Follow: true}), &out, extract.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Failed != (extract.Count{FIFOs: 1, Sockets: 1}) || res.Made.Files != 8 {
		t.Errorf("%+v", res)
	}
	z, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	want := tree.expect()
	for _, f := range z.File {
		name := "/" + filepath.Clean(f.Name)
		w, ok := want[name]
		delete(want, name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || string(content) != w.Content+w.Target || f.Modified.Unix() != w.Meta.Mtime.Sec || uint32(f.Mode().Perm()) != w.Meta.Mode&0o777 {
			t.Errorf("%q: %d bytes, %s, %v, want %+v", f.Name, len(content), f.Mode(), f.Modified, w)
		}
	}
	for name, w := range want {
		if name != "/" && w.Kind != pxar.FIFO && w.Kind != pxar.Socket {
			t.Errorf("%q is missing", name)
		}
	}
}

func TestPxarStreamIsTheArchiveOfVersionOne(t *testing.T) {
	one, two := encode(t, rich(), 1), encode(t, rich(), 2)
	for name, open := range map[string]func() (extract.Source, error){
		"version 1":            func() (extract.Source, error) { return one.reader(t), nil },
		"version 2":            func() (extract.Source, error) { return two.reader(t), nil },
		"version 2, at random": func() (extract.Source, error) { return two.walker(t, extract.Selection{}), nil },
	} {
		var out bytes.Buffer
		res, err := extract.Pxar(t.Context(), open, &out, extract.StreamOptions{})
		if err != nil || !res.Complete() {
			t.Fatalf("%s: %v, %+v", name, err, res)
		}
		if !bytes.Equal(out.Bytes(), one.meta) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

// A part of an archive is an archive: links lead to where their files are in it.
func TestPartIsAnArchiveOfItsOwn(t *testing.T) {
	first := file("first", "content")
	tree := dir("",
		dir("a", first, file("other", "x")),
		dir("b", dir("sub", hardlink("one", first, "a/first"), hardlink("two", first, "a/first")), hardlink("three", first, "a/first")),
	)
	a := encode(t, tree, 2)
	open := func() (extract.Source, error) { return a.walker(t, extract.Selection{Path: "b/"}), nil }
	var out bytes.Buffer
	if _, err := extract.Pxar(t.Context(), open, &out, extract.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	if _, err := extract.Directory(t.Context(), encoded{meta: out.Bytes()}.reader(t), target, extract.Options{Problem: problem(t)}); err != nil {
		t.Fatal(err)
	}
	one := file("one", "content")
	b := dir("", dir("sub", one, hardlink("two", one, "sub/one")), hardlink("three", one, "sub/one"))
	compare(t, b, target)
}

func TestContentThatEndsEarlyIsNoArchive(t *testing.T) {
	tree := dir("", file("f", "0123456789"))
	a := encode(t, tree, 2)
	a.payload = a.payload[:40] // in the content
	for name, write := range map[string]func() error{
		"tar": func() error {
			_, err := extract.Tar(t.Context(), a.reader(t), io.Discard, extract.StreamOptions{})
			return err
		},
		"zip": func() error {
			_, err := extract.Zip(t.Context(), a.reader(t), io.Discard, extract.StreamOptions{})
			return err
		},
		"pxar": func() error {
			_, err := extract.Pxar(t.Context(), func() (extract.Source, error) { return a.reader(t), nil }, io.Discard, extract.StreamOptions{})
			return err
		},
		"directory": func() error {
			_, err := extract.Directory(t.Context(), a.reader(t), t.TempDir(), extract.Options{})
			return err
		},
	} {
		if err := write(); !errors.Is(err, pxar.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
