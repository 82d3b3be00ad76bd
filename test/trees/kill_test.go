//go:build linux

package trees

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	killRounds = flag.Int("kill-rounds", 6, "backups to kill")
	killSeed   = flag.Uint64("kill-seed", 0, "seed of the changes and moments; 0: a new one")
)

// Backups of a changing tree are killed at random moments. After each, the next
// one works with nobody's help; in the end every snapshot that is there,
// acknowledged or not, is what the tree was.
func TestKilledBackupsOfTreesHarmNothing(t *testing.T) {
	need(t, "python3", "zstd")
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 31)
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	src := made(t, "--big", "40")
	s := newStore(t)
	was := map[string]string{} // by snapshot
	killed, acknowledged := 0, map[string]bool{}
	for round := range *killRounds {
		must(t, "python3", "../check/mktree.py", "--change", "40", "--seed", fmt.Sprint(seed+uint64(round)), src)
		now := listing(t, src)
		for _, kill := range []bool{true, false} {
			mode := modes[rng.IntN(3)]
			snap := s.upcoming("host/kill")
			was[snap] = now
			switch code := s.killed(kill, rng, src, mode); {
			case code == exitOK:
				acknowledged[snap] = true
			case kill && code == -1:
				killed++
			default:
				t.Fatalf("round %d: a backup in %s mode after a kill: exit %d", round, mode, code)
			}
		}
	}
	present, err := filepath.Glob(filepath.Join(s.dir, "host", "kill", "*", "index.json.blob"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range present {
		snap := "host/kill/" + filepath.Base(filepath.Dir(p))
		delete(acknowledged, snap)
		same(t, snap+", archive", was[snap], s.listed(snap, "root.pxar"))
		out := s.restored(t, snap, "root.pxar")
		same(t, snap+", restored", was[snap], out)
		if err := remove(out); err != nil {
			t.Error(err)
		}
	}
	for snap := range acknowledged {
		t.Errorf("%s was acknowledged and is gone", snap)
	}
	s.hold(exitOK, "gc")
	s.hold(exitOK, "verify", "--ignore-verified=false")
	t.Logf("%d of %d backups were killed; %d snapshots restored", killed, *killRounds, len(present))
}

// upcoming is the name of the next snapshot of a group.
func (s *store) upcoming(group string) string {
	return group + "/" + time.Unix(s.next.Load()+60, 0).UTC().Format("2006-01-02T15:04:05Z")
}

// killed makes a backup, and kills it after a moment if asked; the exit code is
// -1 then.
func (s *store) killed(kill bool, rng *rand.Rand, src, mode string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "backup", "root.pxar:"+src, "--repository", s.dir, "--backup-type", "host", "--backup-id", "kill",
		"--backup-time", fmt.Sprint(s.next.Add(60)), "--change-detection-mode", mode)
	said, err := os.CreateTemp(s.t.TempDir(), "said")
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if kill {
		moment := time.Duration(rng.Int64N(int64([]time.Duration{150 * time.Millisecond, 800 * time.Millisecond}[rng.IntN(2)])))
		timer := time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	if err := cmd.Wait(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
			text, _ := os.ReadFile(said.Name())
			s.t.Logf("%v: %s", err, tail(string(text)))
		}
	}
	return cmd.ProcessState.ExitCode()
}
