//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// tool is a program under test. A nil function is a job that it does not have.
type tool struct {
	name, program, version string
	about                  string // how it was set up, for the page
	peer                   bool   // one of those whose fastest is the yardstick
	rounds                 int    // at most so many; 0: all

	setup   func(s *site) []measure.Command
	backup  func(s *site, mode string) measure.Command // of s.what; mode is Holdfast's, empty for its default
	full    bool                                       // knows nothing of an earlier backup
	prepare func(ctx context.Context, s *site) error   // before restore and mount
	restore func(s *site) measure.Command
	mount   func(s *site) measure.Command // in the foreground, at s.mnt()
	mounted func(s *site) string          // where s.what is then
}

// site is the directory that a tool has to itself for one round.
type site struct {
	program string
	base    string // where src and big are
	dir     string
	what    string // "src" or "big"
	chosen  string // what prepare found out
	count   int    // backups so far
}

func (s *site) path(rel ...string) string { return filepath.Join(append([]string{s.dir}, rel...)...) }
func (s *site) repo() string              { return s.path("repo") }
func (s *site) out() string               { return s.path("out") }
func (s *site) mnt() string               { return s.path("mnt") }
func (s *site) source() string            { return filepath.Join(s.base, s.what) }

func (s *site) command(env []string, args ...string) measure.Command {
	return measure.Command{Args: append([]string{s.program}, args...), Env: env, Dir: s.dir}
}

func (b *bench) findTools(ctx context.Context) (tools []*tool) {
	for _, t := range []*tool{holdfast(b.Holdfast), restic(), borg(), kopia(), tarZstd(), passthrough(b.Work)} {
		if b.options.tools != "" && !slices.Contains(strings.Split(b.options.tools, ","), t.name) {
			continue
		}
		if err := t.find(ctx, b.peers); err != nil {
			fmt.Printf("left out: %s: %v\n", t.name, err)
			continue
		}
		tools = append(tools, t)
	}
	return tools
}

func (t *tool) find(ctx context.Context, peers string) error {
	path := filepath.Join(peers, t.program)
	if filepath.IsAbs(t.program) {
		path = t.program
	}
	path, err := exec.LookPath(path)
	if err != nil {
		if path, err = exec.LookPath(t.program); err != nil {
			return err
		}
	}
	t.program = path
	if t.version != "" {
		return nil
	}
	out, _, err := measure.Command{Args: []string{path, map[bool]string{true: "version", false: "--version"}[t.name == "restic" || t.name == "holdfast"]}}.Run(ctx)
	t.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	t.version, _, _ = strings.Cut(t.version, " build:")
	return err
}

func holdfast(program string) *tool {
	args := func(s *site, args ...string) measure.Command {
		return s.command(nil, append(args, "--repository", s.repo())...)
	}
	group := func(s *site) string { return "host/" + s.what }
	return &tool{
		name: "holdfast", program: program, about: "defaults: metadata mode, zstd, no encryption",
		setup: func(s *site) []measure.Command { return []measure.Command{s.command(nil, "init", s.repo())} },
		backup: func(s *site, mode string) measure.Command {
			s.count++
			c := []string{"backup", "root.pxar:" + s.source(), "--backup-type", "host", "--backup-id", s.what + mode, "--backup-time", fmt.Sprint(1_700_000_000 + s.count)}
			if mode != "" {
				c = append(c, "--change-detection-mode", mode)
			}
			return args(s, c...)
		},
		restore: func(s *site) measure.Command { return args(s, "restore", group(s)+"/latest", "root.pxar", s.out()) },
		mount: func(s *site) measure.Command {
			return args(s, "mount", group(s)+"/latest", "root.pxar", s.mnt(), "--foreground")
		},
		mounted: func(s *site) string { return s.mnt() },
	}
}

func restic() *tool {
	env := func(s *site) []string {
		return []string{"RESTIC_REPOSITORY=" + s.repo(), "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + s.path("cache")}
	}
	return &tool{
		name: "restic", program: "restic", peer: true, about: "defaults: zstd, always encrypted",
		setup:  func(s *site) []measure.Command { return []measure.Command{s.command(env(s), "--quiet", "init")} },
		backup: func(s *site, _ string) measure.Command { return s.command(env(s), "--quiet", "backup", s.source()) },
		restore: func(s *site) measure.Command {
			return s.command(env(s), "--quiet", "restore", "latest:"+s.source(), "--target", s.out())
		},
		mount:   func(s *site) measure.Command { return s.command(env(s), "--quiet", "mount", s.mnt()) },
		mounted: func(s *site) string { return filepath.Join(s.mnt(), "snapshots", "latest") + s.source() },
	}
}

func borg() *tool {
	env := func(s *site) []string {
		return []string{
			"BORG_REPO=" + s.repo(), "BORG_BASE_DIR=" + s.path("borg"),
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		}
	}
	archive := func(s *site) string { return fmt.Sprintf("::%s-%d", s.what, s.count) }
	return &tool{
		name: "borg", program: "borg", peer: true, about: "zstd,1, no encryption",
		setup: func(s *site) []measure.Command { return []measure.Command{s.command(env(s), "init", "-e", "none")} },
		backup: func(s *site, _ string) measure.Command {
			s.count++
			c := s.command(env(s), "create", "-C", "zstd,1", archive(s), s.what)
			c.Dir = s.base
			return c
		},
		restore: func(s *site) measure.Command {
			c := s.command(env(s), "extract", archive(s))
			c.Dir = s.out()
			return c
		},
		mount:   func(s *site) measure.Command { return s.command(env(s), "mount", "-f", archive(s), s.mnt()) },
		mounted: func(s *site) string { return filepath.Join(s.mnt(), s.what) },
	}
}

func kopia() *tool {
	env := func(s *site) []string {
		return []string{
			"KOPIA_PASSWORD=bench", "KOPIA_CONFIG_PATH=" + s.path("kopia.config"), "KOPIA_CHECK_FOR_UPDATES=false",
			"KOPIA_CACHE_DIRECTORY=" + s.path("cache"), "KOPIA_LOG_DIR=" + s.path("log"),
		}
	}
	return &tool{
		name: "kopia", program: "kopia", peer: true, rounds: 1, about: "zstd-fastest, always encrypted; no maintenance while measured; one round, as it restores slowest",
		setup: func(s *site) []measure.Command {
			return []measure.Command{
				s.command(env(s), "repository", "create", "filesystem", "--path", s.repo()),
				s.command(env(s), "policy", "set", "--global", "--compression=zstd-fastest"),
				s.command(env(s), "maintenance", "set", "--enable-quick=false", "--enable-full=false"),
			}
		},
		backup: func(s *site, _ string) measure.Command {
			return s.command(env(s), "snapshot", "create", "--no-progress", s.source())
		},
		prepare: func(ctx context.Context, s *site) error {
			out, _, err := s.command(env(s), "snapshot", "list", "--json", s.source()).Run(ctx)
			if err != nil {
				return err
			}
			var list []struct {
				RootEntry struct {
					Obj string `json:"obj"`
				} `json:"rootEntry"`
			}
			if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
				return fmt.Errorf("kopia snapshot list: %w", errors.Join(err, errors.New("no snapshot to be read there")))
			}
			s.chosen = list[len(list)-1].RootEntry.Obj
			return nil
		},
		restore: func(s *site) measure.Command {
			return s.command(env(s), "snapshot", "restore", "--no-progress", s.chosen, s.out())
		},
		mount:   func(s *site) measure.Command { return s.command(env(s), "mount", s.chosen, s.mnt()) },
		mounted: func(s *site) string { return s.mnt() },
	}
}

// tarZstd is no backup program: how long it takes to read and compress, and to
// unpack.
func tarZstd() *tool {
	shell := func(s *site, script string) measure.Command {
		return measure.Command{Args: []string{"bash", "-c", "set -o pipefail; " + script, "tar", s.base, s.repo(), s.out()}, Dir: s.dir}
	}
	return &tool{
		name: "tar", program: "tar", full: true, about: "tar --acls --xattrs into zstd -1 -T0",
		backup: func(s *site, _ string) measure.Command {
			return shell(s, `tar -C "$1" --acls --xattrs -cf - src | zstd -1 -T0 -qf -o "$2"`)
		},
		restore: func(s *site) measure.Command {
			return shell(s, `zstd -dcq "$2" | tar -C "$3" --acls --xattrs -xpf -`)
		},
	}
}

// passthrough is a FUSE file system that hands everything on: what FUSE allows.
func passthrough(work string) *tool {
	self, _ := os.Executable()
	return &tool{
		name: "loopback", program: self, version: "go-fuse", about: "the source through go-fuse's loopback file system: what a mount by FUSE can do",
		mount: func(s *site) measure.Command {
			return s.command(nil, "-loopback", filepath.Join(work, s.what), s.mnt())
		},
		mounted: func(s *site) string { return s.mnt() },
	}
}
