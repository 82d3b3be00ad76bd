//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// environment is what a reader needs to judge the figures.
func environment(ctx context.Context, holdfast string) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	parts := []string{
		time.Now().UTC().Format("2006-01-02"),
		fmt.Sprintf("%d cores", runtime.NumCPU()),
		"Linux " + unix.ByteSliceToString(u.Release[:]),
	}
	for _, c := range [][]string{{holdfast, "version"}, {"nbdkit", "--version"}, {"qemu-nbd", "--version"}, {"nbdcopy", "--version"}, {"fio", "--version"}} {
		if out, err := output(ctx, c[0], c[1:]...); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
			line, _, _ = strings.Cut(line, " (Debian")
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, ", ") + "."
}
