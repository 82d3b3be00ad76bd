//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// changeDay does to a copy of the first day's image what a day does to a
// server's disk. tree still holds the first day's files.
func changeDay(ctx context.Context, image, tree string, s scale) error {
	fresh := tree + ".new"
	defer func() { _ = os.RemoveAll(fresh) }()
	d := &day{tree: tree, fresh: fresh, r: rand.New(rand.NewPCG(99, 0))}
	if err := errors.Join(
		d.editSources(),
		d.upgrade("go/pkg/tool"),
		d.rotateLog(s.logs/12),
		d.replace("media/new.bin", s.noise/20, noise(5), true),
	); err != nil {
		return err
	}
	script := fresh + ".debugfs"
	defer func() { _ = os.Remove(script) }()
	if err := os.WriteFile(script, d.script.Bytes(), 0o644); err != nil {
		return err
	}
	if err := helper(ctx, "debugfs", "-w", "-f", script, image); err != nil {
		return err
	}
	if err := d.scatter(ctx, image, "/db/data.db", s.writes); err != nil {
		return err
	}
	return helper(ctx, "e2fsck", "-fn", image)
}

// day collects the commands for debugfs and the new files' contents.
type day struct {
	tree, fresh string
	r           *rand.Rand
	script      bytes.Buffer
}

// replace gives a path in the image new content; created says it is new.
func (d *day) replace(rel string, n int64, content io.Reader, created bool) error {
	host := filepath.Join(d.fresh, rel)
	if err := writeFile(host, n, content); err != nil {
		return err
	}
	if !created {
		fmt.Fprintf(&d.script, "rm /%s\n", rel)
	}
	fmt.Fprintf(&d.script, "write %s /%s\n", host, rel)
	return nil
}

// editSources changes every 60th source file by a line and deletes every 97th.
func (d *day) editSources() error {
	n := 0
	return d.walk("go/src", func(rel string, b []byte) error {
		n++
		switch {
		case n%97 == 0:
			fmt.Fprintf(&d.script, "rm /%s\n", rel)
		case n%60 == 0:
			at := bytes.IndexByte(b, '\n') + 1
			b = bytes.Join([][]byte{b[:at], b[at:]}, []byte("// changed on the second day\n"))
			return d.replace(rel, int64(len(b)), bytes.NewReader(b), false)
		}
		return nil
	})
}

// upgrade replaces a package's programs by ones that were compiled again: all
// moves behind a first third, and one 4 KiB piece in a hundred differs.
func (d *day) upgrade(dir string) error {
	return d.walk(dir, func(rel string, b []byte) error {
		third := len(b) / 3
		b = bytes.Join([][]byte{b[:third], b[third:]}, []byte("an upgraded package's extra bytes 37."))
		for range len(b) / blockSize / 100 {
			at := d.r.IntN(len(b) - 64)
			copy(b[at:at+64], fmt.Sprintf("%064x", d.r.Uint64()))
		}
		return d.replace(rel, int64(len(b)), bytes.NewReader(b), false)
	})
}

// rotateLog renames the log, as logrotate does, and starts a new one.
func (d *day) rotateLog(n int64) error {
	d.script.WriteString("ln /log/app.log /log/app.log.1\nunlink /log/app.log\n")
	return d.replace("log/app.log", n, logLines(7), true)
}

func (d *day) walk(dir string, do func(rel string, b []byte) error) error {
	root := filepath.Join(d.tree, dir)
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.ContainsAny(name, " \"") {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.tree, name)
		if err != nil || len(b) < 2*blockSize {
			return err
		}
		return do(rel, b)
	})
}

// scatter overwrites pieces of 8-64 KiB of a file in place, as a database
// does, by writing to its blocks in the image.
func (d *day) scatter(ctx context.Context, image, file string, writes int) (err error) {
	at, err := blocksOf(ctx, image, file)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	pages := databasePages(8)
	block := make([]byte, blockSize)
	for range writes {
		n := 2 + d.r.IntN(15)
		first := d.r.IntN(len(at)-n) / 4 * 4 // on a database page
		for i := range n {
			if _, err := io.ReadFull(pages, block); err != nil {
				return err
			}
			if _, err := f.WriteAt(block, at[first+i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// blocksOf returns the image offset of each block of a file, by debugfs.
func blocksOf(ctx context.Context, image, file string) (offsets []int64, err error) {
	out, err := exec.CommandContext(ctx, "debugfs", "-R", "dump_extents -l "+file, image).Output()
	if err != nil {
		return nil, fmt.Errorf("debugfs: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var level, levels, entry, entries, logical, logicalEnd, physical, physicalEnd int64
		if _, err := fmt.Sscanf(lines.Text(), "%d/%d %d/%d %d - %d %d - %d", &level, &levels, &entry, &entries,
			&logical, &logicalEnd, &physical, &physicalEnd); err != nil {
			continue // the head line
		}
		for b := physical; b <= physicalEnd; b++ {
			offsets = append(offsets, b*blockSize)
		}
	}
	if len(offsets) < 64 {
		return nil, fmt.Errorf("debugfs names %d blocks of %s in %s", len(offsets), file, image)
	}
	return offsets, lines.Err()
}
