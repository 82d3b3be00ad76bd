//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// scale says how much of each kind of data the image holds, in bytes.
type scale struct {
	image, goTree, modules, packages, logs, database, noise int64
	writes                                                  int // scattered database writes of the second day
}

const mib = 1 << 20

var (
	fullScale = scale{
		image: 8 << 30, goTree: 400 * mib, modules: 400 * mib, packages: 850 * mib,
		logs: 256 * mib, database: 256 * mib, noise: 350 * mib, writes: 400,
	}
	smallScale = scale{
		image: 2 << 30, goTree: 100 * mib, modules: 100 * mib, packages: 212 * mib,
		logs: 64 * mib, database: 64 * mib, noise: 88 * mib,
	}
	bucketScale = scale{
		image: 2 << 30, goTree: 160 * mib, modules: 160 * mib, packages: 340 * mib,
		logs: 100 * mib, database: 100 * mib, noise: 140 * mib, writes: 160,
	}
	quickScale = scale{
		image: 256 * mib, goTree: 24 * mib, modules: 4 * mib, packages: 16 * mib,
		logs: 8 * mib, database: 16 * mib, noise: 8 * mib, writes: 25,
	}
)

// epoch is the time of every file in the image, so that two runs agree.
var epoch = time.Unix(1_700_000_000, 0)

// stage fills dir with the first day's files.
func stage(dir string, s scale) error {
	env := func(name string) (string, error) {
		out, err := exec.Command("go", "env", name).Output()
		return strings.TrimSpace(string(out)), err
	}
	goroot, err := env("GOROOT")
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	modules, err := env("GOMODCACHE")
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for _, c := range []struct {
		from, to string
		budget   int64
	}{
		{filepath.Join(goroot, "pkg"), "go/pkg", s.goTree / 3},
		{filepath.Join(goroot, "src"), "go/src", s.goTree / 2},
		{filepath.Join(goroot, "bin"), "go/bin", s.goTree / 6},
		{modules, "mod", s.modules},
		{"/usr/bin", "usr/bin", s.packages / 4},
		{"/usr/lib", "usr/lib", s.packages / 2},
		{"/usr/share", "usr/share", s.packages / 4},
	} {
		if err := copyTree(c.from, filepath.Join(dir, c.to), c.budget); err != nil {
			return err
		}
	}
	return errors.Join(
		writeFile(filepath.Join(dir, "log/app.log"), s.logs, logLines(1)),
		writeFile(filepath.Join(dir, "db/data.db"), s.database, databasePages(2)),
		writeFile(filepath.Join(dir, "media/a.bin"), s.noise/2, noise(3)),
		writeFile(filepath.Join(dir, "media/b.bin"), s.noise/2, noise(4)),
	)
}

// copyTree copies regular files in lexical order until budget bytes are used.
func copyTree(from, to string, budget int64) error {
	err := filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return nil // the image does without it
		case err != nil:
			return err
		case budget <= 0:
			return filepath.SkipAll
		case !e.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		src, err := os.Open(name)
		if err != nil {
			return nil //nolint:nilerr // unreadable for this user: the image does without it
		}
		defer func() { _ = src.Close() }()
		info, err := src.Stat()
		if err != nil {
			return err
		}
		if info.Size() > budget {
			return nil
		}
		budget -= info.Size()
		return writeFile(filepath.Join(to, rel), info.Size(), src)
	})
	if err != nil {
		return fmt.Errorf("stage %s: %w", from, err)
	}
	return nil
}

// writeFile makes a file of n bytes from r, with the image's one time stamp.
func writeFile(name string, n int64, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, mib)
	_, err = io.CopyN(w, r, n)
	if errors.Is(err, io.EOF) {
		err = nil // a file of the machine that shrank meanwhile
	}
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	return os.Chtimes(name, epoch, epoch)
}

// noise is data that does not compress.
func noise(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }
