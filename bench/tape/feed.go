//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// The repository that is written to tape: an image of data that does not compress.
const (
	feedChunks = 512
	feedChunk  = 4 << 20
	feedImage  = names.Archive("disk.img.fidx")
	readers    = 4
)

var feedSnapshot = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}

// feedJobs are what is compared, in the order of a round.
var feedJobs = []string{"plain", "feed"}

// fillStore makes the repository.
func fillStore(ctx context.Context, path string) (err error) {
	if err := dir.Create(ctx, path, datastore.CreateOptions{Lazy: true}); err != nil {
		return err
	}
	s, err := dir.Open(path, dir.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ses, err := s.Begin(ctx, repo.Begin{Snapshot: feedSnapshot})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ses.Abort()) }()
	enc, err := blob.NewEncoder(nil, nil, false)
	if err != nil {
		return err
	}
	defer enc.Close()
	w, err := ses.CreateFixed(feedImage, feedChunks*feedChunk, feedChunk)
	if err != nil {
		return err
	}
	plain, raw := make([]byte, feedChunk), make([]byte, 0, blob.MaxEncoded(feedChunk))
	for i := range feedChunks {
		rng := rand.NewChaCha8(sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))))
		_, _ = rng.Read(plain) // never fails
		d := digest.Of(plain)
		if raw, err = enc.Append(raw[:0], plain); err != nil {
			return err
		}
		if _, err := ses.Put(ctx, d, len(plain), raw); err != nil {
			return err
		}
		if err := w.Set(i, d); err != nil {
			return err
		}
	}
	sum, err := w.Close()
	if err != nil {
		return err
	}
	m := manifest.New(feedSnapshot)
	if err := m.Add(manifest.File{Filename: feedImage.String(), CryptMode: manifest.ModeNone, Size: feedChunks * feedChunk, Csum: sum}); err != nil {
		return err
	}
	return ses.Finish(ctx, m)
}

// chunkFiles are the paths of the chunks, in the order of the index.
func chunkFiles(path string) (list []string, err error) {
	f, err := os.Open(filepath.Join(path, feedSnapshot.Path(), feedImage.String()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	x, err := fidx.Open(f, info.Size())
	if err != nil {
		return nil, err
	}
	return list, x.Each(func(_ int, d digest.Digest) error {
		list = append(list, filepath.Join(path, names.ChunkPath(d)))
		return nil
	})
}

// dropChunks takes the chunks out of the page cache.
func dropChunks(path string) error {
	list, err := chunkFiles(path)
	for _, name := range list {
		f, oerr := os.Open(name)
		if oerr != nil {
			return oerr
		}
		err = errors.Join(err, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	}
	return err
}

// plainRead reads the chunk files, as many at a time as a backup does.
func plainRead(ctx context.Context, path string) error {
	list, err := chunkFiles(path)
	if err != nil {
		return err
	}
	eg, ctx := errgroup.WithContext(ctx)
	next := make(chan string)
	eg.Go(func() error {
		defer close(next)
		for _, name := range list {
			select {
			case next <- name:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range readers {
		eg.Go(func() error {
			buf := make([]byte, feedChunk+1<<10)
			for name := range next {
				fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				n, err := unix.Read(fd, buf)
				if err = errors.Join(err, unix.Close(fd)); err != nil || n < feedChunk {
					return errors.Join(err, fmt.Errorf("%s: %d bytes", name, n))
				}
			}
			return nil
		})
	}
	return eg.Wait()
}

// feedDrive backs the repository up to a drive that takes everything at once.
func feedDrive(ctx context.Context, path string) (err error) {
	s, err := dir.Open(path, dir.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	temp, err := os.MkdirTemp("/dev/shm", "holdfast-media")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	state, err := media.Open(temp, time.UTC)
	if err != nil {
		return err
	}
	t := new(sink)
	quiet := func(string, ...any) {}
	w := job.World{State: state, Now: time.Now, Logf: quiet, Warnf: quiet, Station: &job.Station{
		Name: "sink", Open: func(context.Context) (tape.Drive, error) { t.pos, t.file = 0, 0; return t, nil },
	}}
	if _, err := w.Label(ctx, "SINK01L8", "daily"); err != nil {
		return err
	}
	stats, err := w.Backup(ctx, media.Pool{Name: "daily"}, job.Backup{Store: "store1", Repo: s, Readers: readers})
	if err == nil && (stats.Chunks != feedChunks || t.taken < feedChunks*feedChunk) {
		err = fmt.Errorf("%+v, %d bytes came to the drive", stats, t.taken)
	}
	return err
}

// sink is a drive that keeps the labels and counts the rest.
type sink struct {
	labels [][]byte // blocks, nil for filemarks
	pos    int
	file   uint64 // at the position
	files  uint64
	taken  int64
}

func (s *sink) Rewind(context.Context) error { s.pos, s.file = 0, 0; return nil }

func (s *sink) Locate(_ context.Context, file uint64) error {
	s.pos, s.file = 0, file
	for n := uint64(0); n < file && s.pos < len(s.labels); s.pos++ {
		if s.labels[s.pos] == nil {
			n++
		}
	}
	return nil
}

func (s *sink) EndOfData(context.Context) (uint64, error) {
	s.pos, s.file = len(s.labels), s.files
	return s.files, nil
}

func (s *sink) File(context.Context) (uint64, error) { return s.file, nil }

func (s *sink) ReadBlock(p []byte) (int, error) {
	if s.pos >= len(s.labels) {
		return 0, tape.ErrEndOfData
	}
	b := s.labels[s.pos]
	s.pos++
	if b == nil {
		s.file++
		return 0, tape.ErrFilemark
	}
	return copy(p, b), nil
}

func (s *sink) WriteBlock(p []byte) (bool, error) {
	s.taken += int64(len(p))
	if s.file < 2 {
		s.labels = append(s.labels[:s.pos], append([]byte(nil), p...))
		s.pos++
	}
	return false, nil
}

func (s *sink) WriteFilemark() (bool, error) {
	if s.file < 2 {
		s.labels = append(s.labels[:s.pos], nil)
		s.pos++
	}
	s.file++
	s.files = s.file
	return false, nil
}

func (s *sink) Sync(context.Context) error { return nil }

func (s *sink) Format(context.Context, bool) error {
	*s = sink{}
	return nil
}

func (s *sink) Eject(context.Context) error                { return nil }
func (s *sink) Encrypt(context.Context, *tape.KeyOf) error { return nil }
func (s *sink) Close() error                               { return nil }

// feeding measures both jobs in every round, with the chunks in the page cache or
// not.
func (o options) feeding(ctx context.Context, store string, cold bool) (map[string][]measure.Cost, error) {
	used := map[string][]measure.Cost{}
	for n := range o.Rounds {
		order := feedJobs
		if n%2 == 1 { // who comes first may be the one who pays for something
			order = []string{feedJobs[1], feedJobs[0]}
		}
		for _, job := range order {
			if cold {
				if err := dropChunks(store); err != nil {
					return nil, err
				}
			}
			cost, err := alone(ctx, job, store)
			if err != nil {
				return nil, err
			}
			used[job] = append(used[job], cost)
		}
	}
	return used, nil
}

// writeFeeding writes a line of the table. The goal is about chunks on the disk: in the
// page cache a read is no more than a copy of memory, and a backup has two and a
// checksum.
func writeFeeding(b *strings.Builder, disk bool, used map[string][]measure.Cost) {
	const size = feedChunks * feedChunk
	where := map[bool]string{false: "in the page cache", true: "on the disk"}[disk]
	rate := func(job string) float64 {
		var seconds []float64
		for _, c := range used[job] {
			seconds = append(seconds, c.Seconds)
		}
		return size / measure.Median(seconds) / (1 << 20)
	}
	var rss int64
	for _, c := range used["feed"] {
		rss = max(rss, c.RSS)
	}
	ratio, goal, met := rate("feed")/rate("plain"), "", ""
	if disk {
		goal, met = "≥ 95 %, ≤ 200 MiB", "met"
		if ratio < 0.95 || rss > 200<<20 {
			met = "missed"
		}
	}
	fmt.Fprintf(b, "| %s | %.0f | %.0f | %s | %.0f %% | %d | %s |\n", where, rate("plain"), rate("feed"), goal, 100*ratio, rss>>20, met)
}
