//go:build linux

package main

import (
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

const firstBackup = 1_700_000_000 // times of the snapshots: a day apart from here

func holdfast(o options) *tool {
	at := func(day int) int64 { return firstBackup + 86400*int64(day) }
	backup := func(s *site, extra ...string) measure.Command {
		return s.command(nil, append([]string{
			"backup", "disk.img:" + s.image(), "--repository", s.repo(),
			"--backup-type", "vm", "--backup-id", "bench", "--backup-time", strconv.FormatInt(at(s.day), 10),
		}, extra...)...)
	}
	restore := func(s *site, extra ...string) measure.Command {
		return s.command(nil, append([]string{
			"restore", "vm/bench/latest", "disk.img", s.out(), "--repository", s.repo(),
		}, extra...)...)
	}
	return &tool{
		name: "holdfast", program: o.Holdfast, about: "defaults: 4 MiB chunks, zstd, no encryption",
		setup:       func(s *site) []measure.Command { return []measure.Command{s.command(nil, "init", s.repo())} },
		backup:      func(s *site) measure.Command { return backup(s) },
		changed:     func(s *site) measure.Command { return backup(s, "--changed-map", "disk.img="+s.changes) },
		restored:    func(s *site) string { return s.out() },
		restore:     func(s *site) measure.Command { return restore(s) },
		inPlace:     func(s *site) measure.Command { return restore(s, "--in-place") },
		inPlaceBase: func(s *site) measure.Command { return restore(s, "--in-place", "--base", snapshotPath(at(0))) },
		verify: func(s *site) measure.Command {
			return s.command(nil, "verify", "--repository", s.repo(), "--ignore-verified=false")
		},
	}
}

func snapshotPath(at int64) string {
	return "vm/bench/" + time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05Z")
}
