//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is what a reader needs to judge the figures; no names, no paths.
type machine struct {
	Date       string `json:"date"`
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory"` // bytes
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file-system"`
	Load       string `json:"load"` // one, five, fifteen minutes before the run
	Floor      int64  `json:"floor"`
}

func describeMachine(ctx context.Context, work string) machine {
	m := machine{Date: time.Now().UTC().Format("2006-01-02"), Cores: runtime.NumCPU()}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kib, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.Memory = kib << 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	if out, _, err := (command{args: []string{"stat", "-f", "-c", "%T", work}}).run(ctx); err == nil {
		m.FileSystem = strings.TrimSpace(string(out))
	}
	// A child's peak begins with ours: what a process that does nothing shows.
	if _, used, err := (command{args: []string{"true"}}).run(ctx); err == nil {
		m.Floor = used.RSS
	}
	return m
}

// field returns the value of the first "name: value" line of a file.
func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func dropCaches() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}

// warm reads an image's data once, so that it is in the page cache.
func warm(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for off := int64(0); ; {
		start, end, ok, err := nextData(f, off)
		if err != nil || !ok {
			return err
		}
		if _, err := io.Copy(io.Discard, onlyReader{io.NewSectionReader(f, start, end-start)}); err != nil {
			return err
		}
		off = end
	}
}

// onlyReader keeps io.Copy to its own small buffer.
type onlyReader struct{ io.Reader }

// weigh returns the sum of the files' sizes below a path, and what they and
// their directories occupy.
func weigh(root string) (bytes, disk int64, err error) {
	err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			disk += st.Blocks * 512
		}
		if info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes, disk, err
}
