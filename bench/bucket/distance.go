//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
)

// The figures of random reads, in milliseconds and in reads per second.
const (
	readOne  = "4 KiB random read, one at a time, at a distance, ms"
	readMany = "4 KiB random reads, 16 at a time, at a distance, per second"
)

// listed has some hundred entries.
const listed = "/disk.img/raw/usr/bin"

// distant is what is measured through the latency. The peers take part in the first
// round, as they take their time.
func (r *session) distant(ctx context.Context) error {
	if r.tool.name != "holdfast" {
		if r.round > 0 {
			return nil
		}
		return r.restore(ctx, jobDistant)
	}
	list := r.command(nil, "file-restore", "list", snapshot, listed, "--driver", "direct", "--repository", r.address())
	if err := r.timed(ctx, jobList, list); err != nil {
		return err
	}
	if err := r.reads(ctx); err != nil {
		return fmt.Errorf("random reads: %w", err)
	}
	return r.restore(ctx, jobDistant)
}

// reads reads blocks from an export.
func (r *session) reads(ctx context.Context) (err error) {
	socket := r.path("nbd.sock")
	c := r.command(nil, "nbd", "serve", snapshot, "disk.img", "--socket", socket, "--repository", r.address())
	export, err := c.Serve(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, export.Stop(20*time.Second)) }()
	u, err := nbd.ParseURI("nbd+unix:///?socket=" + socket)
	if err != nil {
		return err
	}
	disk, err := nbdclient.Open(ctx, u, nbdclient.Options{Connections: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	source, err := os.Open(r.imageOf(1))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	read := reader{disk: disk.ReadAt, source: source}
	const alone, together = 40, 400
	took, err := read.run(alone, 1)
	if err != nil {
		return err
	}
	r.figure(readOne, took.Seconds()*1000/alone)
	if took, err = read.run(together, 16); err != nil {
		return err
	}
	r.figure(readMany, together/took.Seconds())
	return nil
}

// reader reads blocks from places where the source has data, and compares them.
type reader struct {
	disk   func([]byte, int64) (int, error)
	source *os.File
}

const block = 4096

// run makes so many reads, as many at a time.
func (r *reader) run(reads, atOnce int) (time.Duration, error) {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs error
	)
	begin := time.Now()
	for i := range atOnce {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(begin.UnixNano())))
			for range reads / atOnce {
				if err := r.one(rnd); err != nil {
					mu.Lock()
					errs = errors.Join(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(begin), errs
}

func (r *reader) one(rnd *rand.Rand) error {
	info, err := r.source.Stat()
	if err != nil {
		return err
	}
	off, err := unix.Seek(int(r.source.Fd()), rnd.Int64N(info.Size()), unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // a hole to the end
		return r.one(rnd)
	}
	if err != nil {
		return err
	}
	off -= off % block
	var got, want [block]byte
	if _, err := r.source.ReadAt(want[:], off); err != nil {
		return err
	}
	if _, err := r.disk(got[:], off); err != nil {
		return err
	}
	if !bytes.Equal(got[:], want[:]) {
		return fmt.Errorf("the block at %d is another one", off)
	}
	return nil
}

// figure notes a plain value.
func (b *bench) figure(name string, value float64) {
	if b.figures == nil {
		b.figures = map[string][]float64{}
	}
	b.figures[name] = append(b.figures[name], value)
	fmt.Printf("%-60s %8.1f\n", name, value)
}
