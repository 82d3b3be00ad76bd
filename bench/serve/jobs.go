//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results are what was measured, by comparison and column.
type results struct {
	order  []string
	values map[string]map[string][]float64
	peak   int64 // most memory of a Holdfast server, beyond its cache, bytes
}

func (r *results) add(job, column string, value float64) {
	if r.values == nil {
		r.values = map[string]map[string][]float64{}
	}
	if r.values[job] == nil {
		r.values[job] = map[string][]float64{}
		r.order = append(r.order, job)
	}
	r.values[job][column] = append(r.values[job][column], value)
	fmt.Printf("%-40s %-12s %12.1f\n", job, column, value)
}

// The comparisons.
const (
	jobRandom1  = "4 KiB random reads, warm, one at a time, per second"
	jobRandom16 = "4 KiB random reads, warm, 16 at a time, per second"
	jobCopy     = "whole disk by nbdcopy, MiB/s"
	jobCopyDisk = "whole disk by nbdcopy, nothing in the page cache, MiB/s"
	jobDevice   = "whole disk from the block device, MiB/s"
	jobCold     = "4 KiB random reads, each in another chunk, one at a time, ms"
	jobFirst    = "1 TiB image: map, first sector read, ms"
)

// column is one tool of a comparison.
type column struct {
	name  string
	start func(context.Context) (*server, error)
}

// each starts the columns' servers one after the other, another first one
// each round, and measures each.
func each(ctx context.Context, round int, columns []column, measure func(c column, v *server) error) error {
	for i := range columns {
		c := columns[(i+round)%len(columns)]
		v, err := c.start(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(measure(c, v), v.stop()); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// warmReads: everything is in the servers' memory.
func warmReads(ctx context.Context, s *site, round int, res *results) error {
	return each(ctx, round, []column{
		{"holdfast", func(ctx context.Context) (*server, error) { return s.holdfastServes(ctx, "noise.img", "128M") }},
		{"nbdkit", s.memoryServes},
		{"qemu", func(ctx context.Context) (*server, error) { return s.qemuServes(ctx, s.noise) }},
	}, func(c column, v *server) error {
		if _, err := output(ctx, "nbdcopy", s.uri(c.name), "null:"); err != nil {
			return err
		}
		for job, depth := range map[string]int{jobRandom1: 1, jobRandom16: 16} {
			iops, _, err := s.fio(ctx, c.name, depth, noiseSize, "--time_based", "--runtime=3")
			if err != nil {
				return err
			}
			res.add(job, c.name, iops)
		}
		return nil
	})
}

// sequential: the whole disk once, over NBD and from a mapped device.
func sequential(ctx context.Context, s *site, round int, res *results) error {
	info, err := os.Stat(s.disk)
	if err != nil {
		return err
	}
	mib := float64(info.Size()) / (1 << 20)
	for _, job := range []string{jobCopy, jobCopyDisk} {
		if err := s.copied(ctx, round, res, job, mib); err != nil {
			return err
		}
	}
	dev, unmap, err := s.mapped(ctx, "disk.img")
	if err != nil {
		return err
	}
	begin := time.Now()
	_, err = output(ctx, "dd", "if="+dev, "of=/dev/null", "bs=4M")
	took := time.Since(begin)
	if err := errors.Join(err, unmap()); err != nil {
		return err
	}
	res.add(jobDevice, "holdfast", mib/took.Seconds())
	out, err := output(ctx, "losetup", "--find", "--show", "--read-only", s.disk)
	if err != nil {
		return err
	}
	dev = strings.TrimSpace(out)
	begin = time.Now()
	_, err = output(ctx, "dd", "if="+dev, "of=/dev/null", "bs=4M")
	took = time.Since(begin)
	_, uerr := output(context.WithoutCancel(ctx), "losetup", "--detach", dev)
	res.add(jobDevice, "losetup", mib/took.Seconds())
	return errors.Join(err, uerr)
}

// copied copies the whole disk to nowhere from each server.
func (s *site) copied(ctx context.Context, round int, res *results, job string, mib float64) error {
	return each(ctx, round, []column{
		{"holdfast", func(ctx context.Context) (*server, error) { return s.holdfastServes(ctx, "disk.img", "128M") }},
		{"nbdkit", func(ctx context.Context) (*server, error) { return s.nbdkitServes(ctx, s.disk) }},
		{"qemu", func(ctx context.Context) (*server, error) { return s.qemuServes(ctx, s.disk) }},
	}, func(c column, v *server) error {
		if job == jobCopyDisk {
			unix.Sync()
			if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
				return fmt.Errorf("drop the page cache: %w", err)
			}
		} else if _, err := output(ctx, "nbdcopy", s.uri(c.name), "null:"); err != nil { // what was read before lies in the page cache
			return err
		}
		begin := time.Now()
		if _, err := output(ctx, "nbdcopy", s.uri(c.name), "null:"); err != nil {
			return err
		}
		res.add(job, c.name, mib/time.Since(begin).Seconds())
		if c.name != "holdfast" {
			return nil
		}
		most, err := v.Memory("VmHWM")
		res.peak = max(res.peak, most-128<<20)
		return err
	})
}

// coldReads: each read needs another chunk; beside it what reading, decoding
// and hashing one chunk costs.
func coldReads(ctx context.Context, s *site, round int, res *results) error {
	v, err := s.holdfastServes(ctx, "noise.img", "8M")
	if err != nil {
		return err
	}
	// Noise has 16 chunks and the cache holds two: nearly every read misses.
	_, latency, err := s.fio(ctx, "holdfast", 1, noiseSize, "--number_ios=400")
	if err := errors.Join(err, v.stop()); err != nil {
		return err
	}
	res.add(jobCold, "holdfast", latency)
	cost, err := s.chunkCost(ctx)
	if err != nil {
		return err
	}
	res.add(jobCold, "chunk", cost)
	return nil
}

// firstSector: an image of 1 TiB becomes a device.
func firstSector(ctx context.Context, s *site, _ int, res *results) error {
	begin := time.Now()
	dev, unmap, err := s.mapped(ctx, "huge.img")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dev, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var sector [512]byte
	if _, err := unix.Pread(fd, sector[:], 0); err != nil {
		return fmt.Errorf("read %s: %w", dev, err)
	}
	res.add(jobFirst, "holdfast", float64(time.Since(begin).Milliseconds()))
	if !strings.HasPrefix(string(sector[:]), "the first sector") {
		return fmt.Errorf("%s begins with %q", dev, sector[:20])
	}
	return nil
}

// mapped maps an archive to a loop device.
func (s *site) mapped(ctx context.Context, archive string) (dev string, unmap func() error, err error) {
	cmd := exec.CommandContext(ctx, s.holdfast, s.args("map", "vm/bench", archive, "--output-format", "json")...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("map %s: %w: %s", archive, err, stderr.String())
	}
	var got struct {
		Device string `json:"device"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return "", nil, fmt.Errorf("map %s: %w: %s", archive, err, out)
	}
	return got.Device, func() error {
		_, err := output(context.WithoutCancel(ctx), s.holdfast, "unmap", got.Device)
		return err
	}, nil
}

// fio makes random reads of 4 KiB and returns reads a second and the mean
// latency in milliseconds.
func (s *site) fio(ctx context.Context, server string, depth int, size int64, more ...string) (iops, latency float64, err error) {
	report := filepath.Join(s.dir, "fio.json")
	_, err = output(ctx, "fio", append([]string{
		"--name=reads", "--ioengine=nbd", "--uri=" + s.uri(server), "--rw=randread", "--bs=4k", "--randrepeat=0",
		fmt.Sprintf("--iodepth=%d", depth), fmt.Sprintf("--size=%d", size), "--output-format=json", "--output=" + report,
	}, more...)...)
	if err != nil {
		return 0, 0, err
	}
	b, err := os.ReadFile(report)
	if err != nil {
		return 0, 0, err
	}
	if i := strings.IndexByte(string(b), '{'); i > 0 { // a note may come first
		b = b[i:]
	}
	var got struct {
		Jobs []struct {
			Read struct {
				IOPS float64 `json:"iops"`
				Lat  struct {
					Mean float64 `json:"mean"`
				} `json:"lat_ns"`
			} `json:"read"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(b, &got); err != nil || len(got.Jobs) != 1 {
		return 0, 0, fmt.Errorf("fio's report: %w", errors.Join(err))
	}
	return got.Jobs[0].Read.IOPS, got.Jobs[0].Read.Lat.Mean / 1e6, nil
}
