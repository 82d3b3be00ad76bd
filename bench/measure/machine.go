//go:build linux

package measure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is what a reader needs to judge the figures; no names, no paths.
type Machine struct {
	Date       string `json:"date"`
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Memory     int64  `json:"memory"` // bytes
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file-system"`
	Load       string `json:"load"` // one, five, fifteen minutes before the run
	Floor      int64  `json:"floor"`
}

// Describe describes the machine and the file system of a directory.
func Describe(ctx context.Context, work string) Machine {
	m := Machine{Date: time.Now().UTC().Format("2006-01-02"), Cores: runtime.NumCPU()}
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
	if out, _, err := (Command{Args: []string{"stat", "-f", "-c", "%T", work}}).Run(ctx); err == nil {
		m.FileSystem = strings.TrimSpace(string(out))
	}
	// A child's peak begins with ours: what a process that does nothing shows.
	if _, used, err := (Command{Args: []string{"true"}}).Run(ctx); err == nil {
		m.Floor = used.RSS
	}
	return m
}

// String is the sentence that stands above the tables.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %s, %d cores, %.0f GiB of memory, Linux %s, %s. Load before the run: %s.", m.Date, m.CPU, m.Cores,
		float64(m.Memory)/(1<<30), m.Kernel, m.FileSystem, m.Load)
}

// Versions is the sentence of what programs call themselves; each is the command that
// asks one. What does not answer is left out.
func Versions(ctx context.Context, programs ...[]string) string {
	var all []string
	for _, p := range programs {
		if out, _, err := (Command{Args: p}).Run(ctx); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			line, _, _ = strings.Cut(line, " (Debian")
			all = append(all, line)
		}
	}
	return strings.Join(all, ", ") + "."
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

// DropCaches writes everything back and empties the page cache.
func DropCaches() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}
