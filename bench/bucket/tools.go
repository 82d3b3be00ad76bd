//go:build linux

package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/peers"
)

// tool is a program under test.
type tool struct {
	name, program, version string
	about                  string // how it was set up, for the page

	setup    func(s *site) []measure.Command // an empty repository
	backup   func(s *site) measure.Command   // of s.image()
	prepare  func(ctx context.Context, s *site) error
	restore  func(s *site) measure.Command
	restored func(s *site) string // where that leaves the image
}

// site is what a tool has to itself for one round.
type site struct {
	program string
	dir     string
	engine  *engine
	proxy   *proxy
	day     int    // number of the backup, from 0
	chosen  string // what prepare found out: the snapshot to restore
}

func (s *site) path(rel ...string) string { return filepath.Join(append([]string{s.dir}, rel...)...) }
func (s *site) image() string             { return s.path("src", "disk.img") }
func (s *site) out() string               { return s.path("out") }

// command is the site's program with the keys of the engine.
func (s *site) command(env []string, args ...string) measure.Command {
	env = append([]string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_REGION=us-east-1"}, env...)
	return measure.Command{Args: append([]string{s.program}, args...), Env: env, Dir: s.dir}
}

// ask asks for the version.
func (t *tool) ask(ctx context.Context) error {
	arg := "version"
	if t.name == "kopia" {
		arg = "--version"
	}
	out, _, err := measure.Command{Args: []string{t.program, arg}}.Run(ctx)
	t.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	t.version, _, _ = strings.Cut(t.version, " build:") // of kopia: unknown when built from its module
	return err
}

const snapshot = "vm/bench/latest"

func (s *site) address() string {
	return "s3://" + bucket + "/repo?endpoint=http://" + s.proxy.addr()
}

func holdfast(program string) *tool {
	return &tool{
		name: "holdfast", program: program, about: "defaults: packs of 56 MiB, zstd, no encryption, no cache",
		setup: func(s *site) []measure.Command { return []measure.Command{s.command(nil, "init", s.address())} },
		backup: func(s *site) measure.Command {
			return s.command(nil, "backup", "disk.img:"+s.image(), "--repository", s.address(), "--backup-type", "vm", "--backup-id", "bench",
				"--backup-time", strconv.Itoa(1_700_000_000+86400*s.day))
		},
		restore: func(s *site) measure.Command {
			return s.command(nil, "restore", snapshot, "disk.img", s.out(), "--repository", s.address())
		},
		restored: func(s *site) string { return s.out() },
	}
}

func restic(dir string) *tool {
	env := func(s *site) []string {
		return []string{
			"RESTIC_REPOSITORY=s3:http://" + s.proxy.addr() + "/" + bucket + "/repo", "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + s.path("cache"),
		}
	}
	return &tool{
		name: "restic", program: filepath.Join(dir, "restic"), about: "defaults: zstd, always encrypted, five connections; restore --sparse",
		setup:  func(s *site) []measure.Command { return []measure.Command{s.command(env(s), "--quiet", "init")} },
		backup: func(s *site) measure.Command { return s.command(env(s), "--quiet", "backup", s.path("src")) },
		restore: func(s *site) measure.Command {
			return s.command(env(s), "--quiet", "restore", "latest:"+s.path("src"), "--target", s.out(), "--sparse").Synced(s.path("out", "disk.img"))
		},
		restored: func(s *site) string { return s.path("out", "disk.img") },
	}
}

func kopia(dir string) *tool {
	env := func(s *site) []string { return peers.KopiaEnv(s.path()) }
	return &tool{
		name: "kopia", program: filepath.Join(dir, "kopia"), about: "zstd-fastest, always encrypted; no maintenance while measured; restore sparse",
		setup: func(s *site) []measure.Command {
			return []measure.Command{
				s.command(env(s), "repository", "create", "s3", "--bucket", bucket, "--prefix", "repo/", "--endpoint", s.proxy.addr(), "--disable-tls",
					"--region", "us-east-1", "--access-key", accessKey, "--secret-access-key", secretKey),
				s.command(env(s), "policy", "set", "--global", "--compression=zstd-fastest"),
				s.command(env(s), "maintenance", "set", "--enable-quick=false", "--enable-full=false"),
			}
		},
		backup: func(s *site) measure.Command {
			return s.command(env(s), "snapshot", "create", "--no-progress", s.path("src"))
		},
		prepare: func(ctx context.Context, s *site) (err error) {
			s.chosen, err = peers.KopiaNewest(ctx, s.command(env(s), "snapshot", "list", "--json", s.path("src")))
			return err
		},
		restore: func(s *site) measure.Command {
			return s.command(env(s), "snapshot", "restore", "--no-progress", "--write-sparse-files", s.chosen, s.out()).Synced(s.path("out", "disk.img"))
		},
		restored: func(s *site) string { return s.path("out", "disk.img") },
	}
}
