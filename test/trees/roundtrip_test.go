//go:build linux

package trees

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var modes = []string{"legacy", "data", "metadata"}

// notArchived are attributes that show what is kept elsewhere: ACLs, which XFS
// shows twice, and the flag for compression.
var notArchived = []string{"--ignore", "xattr:trusted.SGI_ACL_", "--ignore", "xattr:btrfs."}

func TestEveryFileSystemComesBack(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			need(t, "python3", "zstd", "openssl", "tar")
			p := mounted(t, kind)
			src := p.filled(t, "source")
			t.Log(p.String())
			want := listing(t, src)
			s := newStore(t)
			for _, mode := range modes {
				t.Run(mode, func(t *testing.T) { comesBack(t, s, &p, src, want, mode) })
			}
			s.judged()
			same(t, "the source after all", want, src)
		})
	}
}

func comesBack(t *testing.T, s *store, p *place, src, want, mode string) {
	snap, _ := s.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
	same(t, "what the archive says", want, s.listed(snap, "root.pxar"), notArchived...)
	out := filepath.Join(p.dir, "out-"+mode)
	released(t, out)
	s.hold(exitOK, "restore", snap, "root.pxar", out)
	same(t, "what was restored", want, out, notArchived...)
	if mode == "data" {
		sameTar(t, src, out)
	}
	if err := remove(out); err != nil {
		t.Error(err)
	}
}

func TestEncryptedTreesComeBack(t *testing.T) {
	need(t, "python3", "zstd", "openssl")
	src := made(t, "--big", "1", "--most", "2000000")
	want := listing(t, src)
	s := newStore(t).encrypted()
	for _, mode := range modes {
		snap, _ := s.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
		same(t, mode, want, s.restored(t, snap, "root.pxar"))
	}
	snap, _ := s.backup(exitOK, "metadata", "root.pxar:"+src, "--change-detection-mode", "metadata")
	same(t, "unchanged in metadata mode", want, s.restored(t, snap, "root.pxar"))
}

func TestSeveralArchivesOfASnapshotComeBackEach(t *testing.T) {
	need(t, "python3", "zstd")
	one, two := made(t, "--seed", "2", "--big", "1", "--most", "2000000"), made(t, "--seed", "3", "--big", "2", "--most", "2000000")
	conf := filepath.Join(t.TempDir(), "a.conf")
	if err := os.WriteFile(conf, []byte("memory: 2048\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range modes {
		s := newStore(t)
		for range 2 { // the second time beside a snapshot that has both
			snap, _ := s.backup(exitOK, "several", "one.pxar:"+one, "a.conf:"+conf, "two.pxar:"+two, "--change-detection-mode", mode)
			for name, src := range map[string]string{"one.pxar": one, "two.pxar": two} {
				same(t, mode+", "+name, src, s.restored(t, snap, name))
			}
		}
		s.judged()
	}
}
