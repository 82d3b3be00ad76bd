//go:build linux

package trees

import (
	"path/filepath"
	"testing"
)

// What is written as a tar archive, GNU tar unpacks to the tree.
func TestTarStreamUnpacksToTheTree(t *testing.T) {
	needRoot(t)
	need(t, "python3", "zstd", "tar")
	p := mounted(t, "ext4")
	src := p.filled(t, "source")
	want := listing(t, src)
	s := newStore(t)
	for _, mode := range []string{"legacy", "metadata"} {
		snap, _ := s.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
		file, out := filepath.Join(p.dir, mode+".tar"), filepath.Join(p.dir, "out-"+mode)
		s.hold(exitIncomplete, "restore", snap, "root.pxar", file, "--format", "tar") // there is a socket
		must(t, "mkdir", out)
		must(t, "tar", "-xpf", file, "-C", out, "--warning=no-timestamp", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "--anchored", "--exclude=./deep")
		// A tar archive has no place for sockets, inode flags and project ids, and GNU tar makes no holes and no deep paths.
		same(t, mode, want, out, "--skip", "kinds/socket", "--skip", "deep", "--ignore", "flags", "--ignore", "project", "--ignore", "blocks")
	}
}

// A pxar archive from one snapshot is what the reader of archives finds in it.
func TestPxarStreamIsTheArchive(t *testing.T) {
	need(t, "python3", "zstd")
	src := made(t)
	s := newStore(t)
	for _, mode := range modes {
		snap, _ := s.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
		out := filepath.Join(t.TempDir(), "out.pxar")
		s.hold(exitOK, "restore", snap, "root.pxar", out, "--format", "pxar")
		same(t, mode, src, written(t, must(t, "python3", "../check/pxar.py", out)))
	}
}
