//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	leastEntries = 100_000
	bigSize      = 1 << 30
	bigPart      = 4 << 20
)

// stage makes the tree and the big file, unless they are there.
func (b *bench) stage(ctx context.Context) error {
	src := b.file("src")
	if _, err := os.Stat(b.file("staged")); err == nil {
		return b.count(src)
	}
	if err := os.RemoveAll(src); err != nil {
		return err
	}
	if err := os.Mkdir(src, 0o755); err != nil {
		return err
	}
	fmt.Println("making the tree")
	root, err := goEnv(ctx, "GOROOT")
	if err != nil {
		return err
	}
	cache, err := goEnv(ctx, "GOMODCACHE")
	if err != nil {
		return err
	}
	for _, from := range []string{"/usr", root, cache} {
		if from == root && strings.HasPrefix(root, "/usr/") {
			continue
		}
		if from == cache {
			if err := b.count(src); err != nil {
				return err
			}
			if b.res.Entries >= leastEntries {
				break
			}
		}
		if err := run1(ctx, "cp", "-a", "--one-file-system", from, src); err != nil {
			return err
		}
	}
	if err := b.makeBig(); err != nil {
		return err
	}
	if err := os.WriteFile(b.file("staged"), nil, 0o644); err != nil {
		return err
	}
	return b.count(src)
}

func goEnv(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", name).Output()
	return strings.TrimSpace(string(out)), err
}

// makeBig writes the big file: noise and text in turns.
func (b *bench) makeBig() error {
	if err := os.MkdirAll(b.file("big"), 0o755); err != nil {
		return err
	}
	f, err := os.Create(b.file("big", "big.bin"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	noise := rand.NewChaCha8([32]byte{1})
	words := strings.Fields("back up and restore what is there before it is gone for good")
	rng := rand.New(noise)
	part := make([]byte, bigPart)
	for i := range bigSize / bigPart {
		if i%2 == 0 {
			_, _ = noise.Read(part) // it cannot fail
		} else {
			text := part[:0]
			for len(text) < bigPart-20 {
				text = append(append(text, words[rng.IntN(len(words))]...), ' ')
			}
		}
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	return f.Close()
}

// count counts the entries and bytes of the tree.
func (b *bench) count(root string) error {
	b.res.Entries, b.res.Bytes = 0, 0
	return filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b.res.Entries++
		if e.Type().IsRegular() {
			info, err := e.Info()
			if err != nil {
				return err
			}
			b.res.Bytes += info.Size()
		}
		return nil
	})
}

// warm reads everything below a directory.
func warm(root string) error {
	buf := make([]byte, 1<<20)
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOATIME, 0)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		defer func() { _ = syscall.Close(fd) }()
		for {
			if n, err := syscall.Read(fd, buf); err != nil || n == 0 {
				return err
			}
		}
	})
}

// run1 runs a program that has nothing to say.
func run1(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out[max(0, len(out)-600):])
	}
	return nil
}

// change is the day's work on the tree, which undo takes back.
type change struct {
	src, stash string
	touched    map[string]fs.FileInfo
	removed    []string
}

const line = "a line more\n"

func (b *bench) change() (*change, error) {
	c := &change{src: b.file("src"), stash: b.file("stash"), touched: map[string]fs.FileInfo{}}
	var files []string
	err := filepath.WalkDir(c.src, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	if err := os.MkdirAll(c.stash, 0o755); err != nil {
		return nil, err
	}
	n := len(files) / 100
	for i, path := range files[:n+100] {
		if i >= n {
			c.removed = append(c.removed, path)
			err = os.Rename(path, filepath.Join(c.stash, fmt.Sprint(i-n)))
		} else {
			err = c.touch(path)
		}
		if err != nil {
			return c, err
		}
	}
	if err := os.Mkdir(c.added(), 0o755); err != nil {
		return c, err
	}
	noise := rand.NewChaCha8([32]byte{2})
	for i := range 200 {
		f, err := os.Create(filepath.Join(c.added(), fmt.Sprint(i)))
		if err != nil {
			return c, err
		}
		_, err = io.CopyN(f, noise, rng.Int64N(20000))
		if _ = f.Close(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *change) added() string { return filepath.Join(c.src, "added") }

func (c *change) touch(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	c.touched[path] = info
	_, err = f.WriteString(line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (c *change) undo() error {
	for path, info := range c.touched {
		if err := os.Truncate(path, info.Size()); err != nil {
			return err
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			return err
		}
	}
	for i, path := range c.removed {
		if err := os.Rename(filepath.Join(c.stash, fmt.Sprint(i)), path); err != nil {
			return err
		}
	}
	return os.RemoveAll(c.added())
}
