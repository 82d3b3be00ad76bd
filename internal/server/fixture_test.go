package server_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

const day1 = 1717600000 // 2024-06-05T15:06:40Z

// picture is an image in memory.
type picture struct{ *bytes.Reader }

func (p picture) Size() int64 { return p.Reader.Size() }

func picturePlain() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 6<<16) } // 6 MiB

// tree makes a small directory.
func tree(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	for name, text := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n", "etc/motd": "hello\n", "a b.txt": "blank"} {
		path := filepath.Join(d, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(d, "etc/motd"), filepath.Join(d, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("etc/hosts", filepath.Join(d, "pointer")); err != nil {
		t.Fatal(err)
	}
	return d
}

func snapshot(ns, group string, time int64) names.Snapshot {
	g, err := names.ParseGroup(group)
	if err != nil {
		panic(err)
	}
	return names.Snapshot{NS: names.Namespace(ns), Group: g, Time: time}
}

// fill puts a snapshot with an image, a directory and a blob into a datastore.
func (s *site) fill(store string, n names.Snapshot, owner string, key *chunkcrypt.Key, mode backup.Detection) {
	s.t.Helper()
	r, err := dir.Open(s.path(store), dir.Options{})
	s.ok(err)
	defer r.Close()
	if !n.NS.IsRoot() {
		if err := r.CreateNamespace(s.t.Context(), n.NS); err != nil && !strings.Contains(err.Error(), repo.ErrExists.Error()) {
			s.t.Fatal(err)
		}
	}
	_, err = backup.Run(s.t.Context(), r, backup.Job{
		Snapshot: n, Owner: owner, Notes: "first line\nsecond",
		Sources: []backup.Source{
			{Name: "vm.conf.blob", Data: []byte("cores: 2\n")},
			{Name: "disk.img.fidx", Image: picture{bytes.NewReader(picturePlain())}},
			{Name: "root.pxar.didx", Tree: &backup.Tree{Path: tree(s.t), Detection: mode}},
		},
		Options: backup.Options{Key: key, CryptMode: cryptMode(key), Workers: 2},
	})
	s.ok(err)
}

func cryptMode(key *chunkcrypt.Key) manifest.CryptMode {
	if key == nil {
		return manifest.ModeNone
	}
	return manifest.ModeEncrypt
}

// small puts a snapshot with nothing but a blob into a datastore, if it is not
// there.
func (s *site) small(store string, n names.Snapshot, owner string) {
	s.t.Helper()
	if _, err := os.Stat(filepath.Join(s.path(store), n.Path())); err == nil {
		return
	}
	r, err := dir.Open(s.path(store), dir.Options{})
	s.ok(err)
	defer r.Close()
	_, err = backup.Run(s.t.Context(), r, backup.Job{
		Snapshot: n, Owner: owner, Sources: []backup.Source{{Name: "vm.conf.blob", Data: []byte("cores: 2\n")}},
	})
	s.ok(err)
}
