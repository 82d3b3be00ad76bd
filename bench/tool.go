//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// tool is a program under test. A nil function is a job that it does not have.
type tool struct {
	name, program, version string
	about                  string // how it was set up, for the page
	dedup                  bool   // one of those whose fastest is the yardstick
	rounds                 int    // at most so many; 0: all
	full                   bool   // knows nothing of an earlier backup: each is a first one

	setup       func(s *site) []measure.Command // an empty repository
	backup      func(s *site) measure.Command   // of s.image()
	changed     func(s *site) measure.Command   // the same with the changed map at s.changes
	restored    func(s *site) string            // where restore leaves the image
	prepare     func(ctx context.Context, s *site) error
	restore     func(s *site) measure.Command
	inPlace     func(s *site) measure.Command // over the first day's image at restored
	inPlaceBase func(s *site) measure.Command // the same, told that it is the first day's
	verify      func(s *site) measure.Command
}

// site is the directory that a tool has to itself for one round.
type site struct {
	program string
	dir     string
	changes string // changed map for this repository
	day     int    // number of the backup, from 0
	source  string // the image of that day in the work directory
	chosen  string // what prepare found out: the id of the snapshot to restore
}

func (s *site) path(rel ...string) string { return filepath.Join(append([]string{s.dir}, rel...)...) }
func (s *site) repo() string              { return s.path("repo") }
func (s *site) image() string             { return s.path("src", "disk.img") }
func (s *site) out() string               { return s.path("out") }

// present puts an image where the tools look for it, under one name for both
// days, as a disk has it.
func (s *site) present(image string, day int) error {
	s.day, s.source = day, image
	if err := os.MkdirAll(s.path("src"), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(s.image()); err != nil {
		return err
	}
	return os.Link(image, s.image())
}

// command is this site's program with arguments, run in its directory.
func (s *site) command(env []string, args ...string) measure.Command {
	return measure.Command{Args: append([]string{s.program}, args...), Env: env, Dir: s.dir}
}

// findTools returns holdfast and every peer whose program is there, saying
// which are not.
func findTools(ctx context.Context, o options) (tools []*tool) {
	wanted := func(name string) bool { return true }
	if o.tools != "" {
		list := strings.Split(o.tools, ",")
		wanted = func(name string) bool {
			for _, w := range list {
				if name == w || name == "holdfast" {
					return true
				}
			}
			return false
		}
	}
	for _, t := range []*tool{holdfast(o), restic(), borg(), borgFixed(), kopia(), qemuImg(), cp()} {
		if !wanted(t.name) {
			continue
		}
		if err := t.find(ctx, o.peers); err != nil {
			fmt.Printf("left out: %s: %v\n", t.name, err)
			continue
		}
		tools = append(tools, t)
	}
	return tools
}

// find looks the program up and asks for its version.
func (t *tool) find(ctx context.Context, peers string) error {
	path, err := exec.LookPath(filepath.Join(peers, filepath.Base(t.program)))
	if err != nil || filepath.IsAbs(t.program) {
		path, err = exec.LookPath(t.program)
	}
	if err != nil {
		return err
	}
	t.program = path
	args := []string{path, "--version"}
	if t.name == "restic" || t.name == "holdfast" {
		args[1] = "version"
	}
	out, _, err := measure.Command{Args: args}.Run(ctx)
	if err != nil {
		return err
	}
	t.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	t.version, _, _ = strings.Cut(t.version, " build:") // kopia: unknown when built from its module
	return nil
}
