//go:build linux

package trees

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A strace log names the file of every descriptor that is read. What does not
// lie in the source does not count.
func contentRead(t *testing.T, s *store, src, id string, args ...string) (snapshot string, files []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	trace := []string{"strace", "-f", "-y", "-qq", "--seccomp-bpf", "-o", log, "-e", "trace=read,pread64,readv,preadv,mmap,copy_file_range,splice,io_uring_setup"}
	at := s.next.Add(60)
	args = append(append(trace, bin, "backup", "--repository", s.dir, "--backup-type", "host", "--backup-id", id,
		"--backup-time", fmt.Sprint(at), "root.pxar:"+src), args...)
	must(t, args...)
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, "io_uring_setup") {
			t.Fatal("io_uring is used: its reads are not seen here")
		}
		if _, rest, ok := strings.Cut(line, "<"+src+"/"); ok {
			name, _, _ := strings.Cut(rest, ">")
			files = append(files, name)
		}
	}
	return "host/" + id + "/latest", files
}

func TestUnchangedFilesAreNotReadInMetadataMode(t *testing.T) {
	need(t, "python3", "zstd", "strace")
	src := made(t)
	want := listing(t, src)
	s := newStore(t)
	_, files := contentRead(t, s, src, "a", "--change-detection-mode", "metadata")
	if len(files) < 1000 {
		t.Fatalf("%d reads seen of the first run: the trace does not see them", len(files))
	}
	snap, files := contentRead(t, s, src, "a", "--change-detection-mode", "metadata")
	if len(files) != 0 {
		t.Errorf("%d reads of unchanged files, the first of %s", len(files), files[0])
	}
	same(t, "the second snapshot", want, s.restored(t, snap, "root.pxar"))
	s.judged()

	// The last file of all: chunks that hold one before it need not be made anew.
	if err := os.WriteFile(filepath.Join(src, "zzz"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, files = contentRead(t, s, src, "a", "--change-detection-mode", "metadata"); len(files) == 0 {
		t.Error("the new file was not read")
	}
	for _, f := range files {
		if f != "zzz" {
			t.Fatalf("%s is unchanged and was read beside a new file", f)
		}
	}
}

const rounds = 20

func TestTwentyRoundsOfChangesRestoreEach(t *testing.T) {
	need(t, "python3", "zstd")
	src := made(t, "--big", "3")
	s := newStore(t)
	seed := rand.Uint64N(1 << 31)
	t.Logf("seed %d", seed)
	type state struct{ snapshot, listing string }
	var history []state
	follower := filepath.Join(t.TempDir(), "follower") // is made each snapshot in its turn
	released(t, follower)
	for round := range rounds {
		must(t, "python3", "../check/mktree.py", "--change", "25", "--seed", fmt.Sprint(seed+uint64(round)), src)
		snap, _ := s.backup(exitOK, "chain", "root.pxar:"+src, "--change-detection-mode", "metadata")
		history = append(history, state{snap, listing(t, src)})
		same(t, fmt.Sprintf("round %d, archive", round), history[round].listing, s.listed(snap, "root.pxar"))
		s.hold(exitOK, "restore", snap, "root.pxar", follower, "--in-place", "--delete")
		same(t, fmt.Sprintf("round %d, in place", round), history[round].listing, follower)
	}
	for round, h := range history { // now that all are there
		out := filepath.Join(t.TempDir(), "out")
		s.hold(exitOK, "restore", h.snapshot, "root.pxar", out)
		same(t, fmt.Sprintf("round %d, restored", round), h.listing, out)
		if err := remove(out); err != nil {
			t.Error(err)
		}
	}
}

// Legacy, data and metadata take turns: each finds the other's snapshot before
// its own.
func TestModesMayAlternate(t *testing.T) {
	need(t, "python3", "zstd")
	src := made(t, "--big", "2", "--most", "2000000")
	s := newStore(t)
	for round, mode := range []string{"metadata", "legacy", "metadata", "data", "metadata", "legacy", "data", "metadata", "metadata"} {
		must(t, "python3", "../check/mktree.py", "--change", "10", "--seed", fmt.Sprint(round), src)
		snap, _ := s.backup(exitOK, "turns", "root.pxar:"+src, "--change-detection-mode", mode)
		same(t, fmt.Sprintf("round %d, %s", round, mode), src, s.listed(snap, "root.pxar"))
	}
	s.judged()
}
