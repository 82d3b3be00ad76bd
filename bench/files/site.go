//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

const (
	diskSize  = 1 << 40
	partStart = 1 << 20
	bigSize   = 1 << 30
	dirs      = 1000
	filesEach = 100

	snapshot = "vm/100"
	disk     = "drive-scsi0.img"
	root     = "/" + disk + "/part/1"
	oneDir   = root + "/srv/many/500"
	someDirs = root + "/srv/many/some" // 100 of the directories
)

// site is where one run takes place.
type site struct {
	o   options
	dir string
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// command is a program with the environment of the site.
func (s *site) command(args ...string) measure.Command {
	return measure.Command{Args: args, Env: []string{
		"HOLDFAST_REPOSITORY=" + s.path("repo"), "HOLDFAST_RUN_DIR=" + s.path("run"), "XDG_STATE_HOME=" + s.path("state"),
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
	}}
}

func (s *site) holdfast(args ...string) measure.Command {
	return s.command(append([]string{s.o.Holdfast}, args...)...)
}

func do(ctx context.Context, all ...measure.Command) error {
	for _, c := range all {
		if _, _, err := c.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes image and repository, unless they are kept from before.
func (s *site) prepare(ctx context.Context) error {
	if _, err := os.Stat(s.path("ready")); err == nil && s.o.keep {
		return nil
	}
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.path("mnt"), 0o755), os.WriteFile(s.path("disk"), nil, 0o600),
		os.Truncate(s.path("disk"), diskSize), os.WriteFile(s.path("table"), []byte("label: gpt\nstart=2048, name=root\n"), 0o600)); err != nil {
		return err
	}
	part := fmt.Sprintf("offset=%d", partStart)
	err := do(ctx,
		s.command("sh", "-c", `sfdisk -q "$0" <"$1"`, s.path("disk"), s.path("table")),
		s.command("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-E", part, s.path("disk"), fmt.Sprint((diskSize-2*partStart)>>10)),
		s.command("mount", "-o", "loop,"+part, s.path("disk"), s.path("mnt")),
	)
	if err != nil {
		return err
	}
	err = errors.Join(s.fill(), do(ctx, s.command("cp", s.path("mnt/srv/big"), s.path("big")), s.command("umount", s.path("mnt"))))
	if err != nil {
		return err
	}
	return errors.Join(do(ctx,
		s.holdfast("init", "--lazy", s.path("repo")),
		s.holdfast("backup", disk+":"+s.path("disk"), "big.img:"+s.path("big"), "--backup-type", "vm", "--backup-id", "100"),
	), os.Remove(s.path("disk")), os.Remove(s.path("big")), os.WriteFile(s.path("ready"), nil, 0o600))
}

// words make the small files compress as files do.
var words = strings.Fields("root daemon service listen port enabled disabled server config the and of for with user group value path")

// fill puts files on the mounted file system.
func (s *site) fill() error {
	mnt := s.path("mnt")
	for name, text := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\nNAME=\"Debian GNU/Linux\"\n", "etc/debian_version": "12.1\n", "etc/hostname": "web\n",
		"etc/fstab": "LABEL=root / ext4 defaults 0 1\n", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "bin/sh": "", "usr/bin/env": "", "lib/lsb": "", "home/x": "", "var/lib/dpkg/status": "",
		"boot/grub/grub.cfg": "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(mnt, name)), 0o755), os.WriteFile(filepath.Join(mnt, name), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for d := range dirs {
		dir := filepath.Join(mnt, "srv/many", fmt.Sprint(d))
		if d < 100 {
			dir = filepath.Join(mnt, "srv/many/some", fmt.Sprint(d))
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for f := range filesEach {
			text.Reset()
			for n := 200 + rnd.IntN(8<<10-200); text.Len() < n; {
				text.WriteString(words[rnd.IntN(len(words))])
				text.WriteByte(' ')
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", f)), []byte(text.String()), 0o644); err != nil {
				return err
			}
		}
	}
	big, err := os.Create(filepath.Join(mnt, "srv/big"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(big, rand.NewChaCha8([32]byte{1}), bigSize)
	return errors.Join(err, big.Close())
}
