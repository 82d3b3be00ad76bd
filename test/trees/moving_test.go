//go:build linux

package trees

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// writer changes files all the time until stopped: they grow, shrink, vanish,
// come back and become directories.
func writer(ctx context.Context, dir string, n int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	junk := make([]byte, 300_000)
	for ctx.Err() == nil {
		name := filepath.Join(dir, fmt.Sprintf("moving%03d", rng.IntN(n)))
		switch rng.IntN(7) {
		case 0, 1:
			_ = os.WriteFile(name, junk[:rng.IntN(len(junk))], 0o600)
		case 2:
			_ = os.Truncate(name, rng.Int64N(100_000))
		case 3:
			_ = os.Remove(name)
		case 4:
			_ = os.Rename(name, filepath.Join(dir, fmt.Sprintf("moving%03d", rng.IntN(n))))
		case 5:
			_ = os.Mkdir(name, 0o700)
		case 6:
			_ = os.Symlink("nowhere", name)
		}
	}
}

func TestFilesMayChangeWhileTheyAreRead(t *testing.T) {
	need(t, "python3", "zstd")
	src := t.TempDir()
	still := filepath.Join(src, "still")
	if err := os.Mkdir(still, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "python3", "../check/mktree.py", "--big", "3", still)
	released(t, still)
	want := listing(t, still)
	const files = 200
	for i := range files {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("moving%03d", i)), make([]byte, 200_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() { writer(ctx, src, files, seed) })
	var snapshots []string
	incomplete := 0
	for i := range 6 {
		code, said := s.try("backup", "--backup-type", "host", "--backup-id", "moving", "--backup-time", fmt.Sprint(1_700_000_000+60*i),
			"root.pxar:"+src, "--change-detection-mode", modes[i%3])
		switch code {
		case exitIncomplete:
			incomplete++
			if !strings.Contains(said, "moving") {
				t.Errorf("exit 3, and no file is named: %s", tail(said))
			}
		case exitOK:
		default:
			t.Errorf("exit %d: %s", code, tail(said))
		}
		snap := "host/moving/" + time.Unix(int64(1_700_000_000+60*i), 0).UTC().Format("2006-01-02T15:04:05Z")
		snapshots = append(snapshots, snap)
	}
	stop()
	writers.Wait()
	if incomplete == 0 {
		t.Error("no run met a change")
	}
	s.judged()
	for _, snap := range snapshots { // what stood still came back
		out := s.restored(t, snap, "root.pxar")
		same(t, snap, want, filepath.Join(out, "still"))
		if err := remove(out); err != nil {
			t.Error(err)
		}
	}
	s.hold(exitOK, "verify", "--ignore-verified=false")
}

// try runs the program whatever its exit code.
func (s *store) try(args ...string) (code int, said string) {
	s.t.Helper()
	code, out, said := run(s.t, append([]string{bin, args[0], "--repository", s.dir}, args[1:]...)...)
	if strings.Contains(said, "goroutine ") {
		s.t.Fatalf("%q: a stack trace:\n%s", args, tail(said))
	}
	return code, out + said
}

// The file changes as soon as its reading has begun, and is large enough for that.
func TestFileThatShrinksOrGrowsIsNamed(t *testing.T) {
	need(t, "python3", "zstd")
	for _, tc := range []struct {
		name string
		do   func(name string) error
	}{
		{"shrinks", func(n string) error { return os.Truncate(n, 5) }},
		{"grows", func(n string) error {
			f, err := os.OpenFile(n, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte("more"))
			_ = f.Close()
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := t.TempDir()
			big := filepath.Join(src, "big")
			if err := os.WriteFile(big, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(big, 2<<30); err != nil { // seconds of reading
				t.Fatal(err)
			}
			s := newStore(t)
			done := make(chan error, 1)
			go func() { done <- whenRead(t.Context(), big, tc.do) }()
			_, said := s.backup(exitIncomplete, "moving", "root.pxar:"+src)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, "big") {
				t.Errorf("said %q, which does not name the file", said)
			}
			s.judged()
		})
	}
}

// whenRead does something to a file as soon as a process has read into it.
func whenRead(ctx context.Context, name string, do func(string) error) error {
	for ctx.Err() == nil {
		found, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			return err
		}
		for _, fd := range found {
			if to, err := os.Readlink(fd); err == nil && to == name {
				if readInto(fd) {
					return do(name)
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}

// readInto reports whether the descriptor's position is beyond the start.
func readInto(fd string) bool {
	info, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "fdinfo", filepath.Base(fd)))
	return err == nil && !strings.HasPrefix(string(info), "pos:\t0\n")
}
