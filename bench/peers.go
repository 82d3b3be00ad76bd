//go:build linux

package main

import (
	"context"
	"strconv"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/peers"
)

func restic() *tool {
	env := func(s *site) []string {
		return []string{"RESTIC_REPOSITORY=" + s.repo(), "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR=" + s.path("cache")}
	}
	restore := func(s *site, extra ...string) measure.Command {
		args := append([]string{"--quiet", "restore", "latest:" + s.path("src"), "--target", s.out()}, extra...)
		return s.command(env(s), args...)
	}
	return &tool{
		name: "restic", program: "restic", dedup: true, about: "defaults: variable chunks, zstd, always encrypted; restore --sparse",
		setup:    func(s *site) []measure.Command { return []measure.Command{s.command(env(s), "--quiet", "init")} },
		backup:   func(s *site) measure.Command { return s.command(env(s), "--quiet", "backup", s.path("src")) },
		restored: func(s *site) string { return s.path("out", "disk.img") },
		restore:  func(s *site) measure.Command { return restore(s, "--sparse").Synced(s.path("out", "disk.img")) },
		inPlace: func(s *site) measure.Command {
			return restore(s, "--overwrite", "always").Synced(s.path("out", "disk.img"))
		},
		verify: func(s *site) measure.Command { return s.command(env(s), "--quiet", "check", "--read-data") },
	}
}

func borg() *tool {
	return borgWith("borg", "defaults: variable chunks; zstd,1, no encryption")
}

// borgFixed is what borg's manual advises for disk images.
func borgFixed() *tool {
	return borgWith("borg-fixed", "4 MiB fixed chunks, --sparse; zstd,1, no encryption", "--chunker-params", "fixed,4194304", "--sparse")
}

func borgWith(name, about string, how ...string) *tool {
	env := func(s *site) []string {
		return []string{
			"BORG_REPO=" + s.repo(), "BORG_BASE_DIR=" + s.path("borg"),
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		}
	}
	archive := func(s *site) string { return "::day" + strconv.Itoa(s.day) }
	return &tool{
		name: name, program: "borg", dedup: true, about: about,
		setup: func(s *site) []measure.Command { return []measure.Command{s.command(env(s), "init", "-e", "none")} },
		backup: func(s *site) measure.Command {
			args := append([]string{"create", "-C", "zstd,1"}, how...)
			return s.command(env(s), append(args, archive(s), "src/disk.img")...)
		},
		restored: func(s *site) string { return s.path("out", "src", "disk.img") },
		restore: func(s *site) measure.Command {
			c := s.command(env(s), "extract", "--sparse", archive(s))
			c.Dir = s.out()
			return c.Synced(s.path("out", "src", "disk.img"))
		},
		verify: func(s *site) measure.Command { return s.command(env(s), "check", "--verify-data") },
	}
}

func kopia() *tool {
	env := func(s *site) []string { return peers.KopiaEnv(s.path()) }
	return &tool{
		name: "kopia", program: "kopia", dedup: true, rounds: 1,
		about: "zstd-fastest, always encrypted; no maintenance while measured; restore sparse; one round, as it is the slowest",
		setup: func(s *site) []measure.Command {
			return []measure.Command{
				s.command(env(s), "repository", "create", "filesystem", "--path", s.repo()),
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
		restored: func(s *site) string { return s.path("out", "disk.img") },
		restore: func(s *site) measure.Command {
			c := s.command(env(s), "snapshot", "restore", "--no-progress", "--write-sparse-files", s.chosen, s.out())
			return c.Synced(s.path("out", "disk.img"))
		},
		verify: func(s *site) measure.Command {
			return s.command(env(s), "snapshot", "verify", "--no-progress", "--verify-files-percent=100")
		},
	}
}

func qemuImg() *tool {
	return &tool{
		name: "qemu-img", program: "qemu-img", full: true, about: "convert -c -O qcow2 -o compression_type=zstd -m 8 -W; back with convert -O raw -m 8 -W",
		backup: func(s *site) measure.Command {
			return s.command(nil, "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", "-m", "8", "-W", s.image(), s.repo())
		},
		restored: func(s *site) string { return s.out() },
		restore: func(s *site) measure.Command {
			return s.command(nil, "convert", "-f", "qcow2", "-O", "raw", "-m", "8", "-W", s.repo(), s.out()).Synced(s.out())
		},
	}
}

// cp copies the image and waits for the disk: no backup program, but the floor
// under every restore.
func cp() *tool {
	copyTo := func(s *site, from, to string) measure.Command {
		return measure.Command{Args: []string{"sh", "-c", `cp --sparse=always "$1" "$2" && sync "$2"`, "cp", from, to}, Dir: s.dir}
	}
	return &tool{
		name: "cp", program: "cp", full: true, about: "cp --sparse=always, then sync of the file",
		backup:   func(s *site) measure.Command { return copyTo(s, s.image(), s.repo()) },
		restored: func(s *site) string { return s.out() },
		restore:  func(s *site) measure.Command { return copyTo(s, s.repo(), s.out()) },
	}
}
