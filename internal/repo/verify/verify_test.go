package verify_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

const (
	chunkSize = 4096
	image     = names.Archive("disk.img.fidx")
)

// store is some snapshots of one image each, whose chunks lie in places.
type store struct {
	t     *testing.T
	snaps map[names.Snapshot]*snapshot

	mu       sync.Mutex
	aside    []digest.Digest
	lost     []digest.Digest
	verdicts map[names.Snapshot]string
}

// snapshot is one of them.
type snapshot struct {
	repo.Snapshot
	name   names.Snapshot
	m      *manifest.Manifest
	slots  []digest.Digest
	index  []byte
	chunks map[digest.Digest][]byte
	fail   map[digest.Digest]error // of reading
	place  map[digest.Digest]uint32

	mu    sync.Mutex
	read  []digest.Digest
	ahead []digest.Digest
}

func newStore(t *testing.T) *store {
	return &store{t: t, snaps: map[names.Snapshot]*snapshot{}, verdicts: map[names.Snapshot]string{}}
}

func plainOf(i int) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(i)+1), chunkSize/4)
}

// add makes a snapshot of numbered chunks.
func (s *store) add(at int64, contents ...int) *snapshot {
	s.t.Helper()
	enc, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		s.t.Fatal(err)
	}
	defer enc.Close()
	n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: at}
	p := &snapshot{
		name: n, m: manifest.New(n), chunks: map[digest.Digest][]byte{}, fail: map[digest.Digest]error{}, place: map[digest.Digest]uint32{},
	}
	h := fidx.Header{Ctime: at, Size: uint64(len(contents) * chunkSize), ChunkSize: chunkSize}
	var table []byte
	for _, c := range contents {
		plain := plainOf(c)
		d := digest.Of(plain)
		if p.chunks[d], err = enc.Append(nil, plain); err != nil {
			s.t.Fatal(err)
		}
		p.slots = append(p.slots, d)
		p.place[d] = uint32(c)
		table = append(table, d[:]...)
	}
	h.Sum = digest.Of(table)
	p.index = append(h.Append(nil), table...)
	if err := p.m.Add(manifest.File{Filename: image.String(), CryptMode: manifest.ModeNone, Size: h.Size, Csum: h.Sum}); err != nil {
		s.t.Fatal(err)
	}
	s.snaps[n] = p
	return p
}

func (s *store) run(opt repo.VerifyOptions) repo.VerifyReport {
	s.t.Helper()
	opt.Workers = 1
	rep, err := verify.Run(s.t.Context(), s, opt)
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

func (s *store) Need(names.Snapshot) error { return nil }

func (s *store) Spaces(ns names.Namespace, _ bool) ([]names.Namespace, error) {
	return []names.Namespace{ns}, nil
}

func (s *store) Groups(names.Namespace, *names.Group) ([]names.Group, error) {
	return []names.Group{{Type: names.Host, ID: "benchmark"}, {Type: names.VM, ID: "100"}}, nil
}

func (s *store) Finished(_ names.Namespace, g names.Group) ([]names.Snapshot, error) {
	if g.ID == "benchmark" {
		return nil, errors.New("a benchmark is looked at")
	}
	var all []names.Snapshot
	for n := range s.snaps {
		all = append(all, n)
	}
	slices.SortFunc(all, names.Snapshot.Compare)
	return all, nil
}

func (s *store) Open(_ context.Context, n names.Snapshot) (verify.Snapshot, error) {
	return placed{s.snaps[n]}, nil
}

func (s *store) SetAside(_ context.Context, _ verify.Snapshot, d digest.Digest, check func() error) (bool, error) {
	if err := check(); err == nil {
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside = append(s.aside, d)
	return false, nil
}

func (s *store) MarkLost(_ context.Context, _ verify.Snapshot, d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, d)
	return nil
}

func (s *store) SaveVerdict(_ context.Context, snap verify.Snapshot, v manifest.VerifyState) error {
	s.verdicts[snap.Name()] = v.State
	return nil
}

func (s *store) Now() time.Time { return time.Unix(1_700_000_000, 0) }

func (s *store) TaskID(time.Time, string, string) string { return "UPID:made:up" }

// placed is a snapshot that knows where its chunks lie.
type placed struct{ *snapshot }

func (p placed) Place(_ context.Context, d digest.Digest) (at verify.Place, err error) {
	binary.BigEndian.PutUint32(at[:], p.place[d])
	return at, nil
}

func (p placed) Ahead() int { return 64 }

func (p *snapshot) Name() names.Snapshot         { return p.name }
func (p *snapshot) Manifest() *manifest.Manifest { return p.m }
func (p *snapshot) Close() error                 { return nil }

func (p *snapshot) OpenFixed(names.Archive) (*fidx.Index, io.Closer, error) {
	x, err := fidx.Open(bytes.NewReader(p.index), int64(len(p.index)))
	return x, io.NopCloser(nil), err
}

func (p *snapshot) Prefetch(ds []digest.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead = append(p.ahead, ds...)
}

func (p *snapshot) ReadChunk(_ context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = append(p.read, d)
	if err := p.fail[d]; err != nil {
		return buf[:0], err
	}
	return append(buf[:0], p.chunks[d]...), nil
}

// numbers are the contents from first to last.
func numbers(first, last int) (list []int) {
	for i := first; i <= last; i++ {
		list = append(list, i)
	}
	return list
}

// What lies in one place after the other is read in that order, whatever the index
// says, and all of it is announced before its turn, once.
func TestChunksAreAnnouncedAndReadAsTheyLie(t *testing.T) {
	s := newStore(t)
	order := numbers(0, 299)
	slices.Reverse(order)
	p := s.add(1, append(order, 7, 7, 299)...) // some of them again
	s.run(repo.VerifyOptions{})
	var want []digest.Digest
	for i := range 300 {
		want = append(want, digest.Of(plainOf(i)))
	}
	if !slices.Equal(p.read, want) {
		t.Errorf("%d chunks are read, not %d in the order of their places", len(p.read), len(want))
	}
	seen := map[digest.Digest]int{}
	for _, d := range p.ahead {
		seen[d]++
	}
	for i, d := range want {
		if seen[d] == 0 || seen[d] > 3 { // no oftener than the index names it
			t.Errorf("chunk %d is announced %d times", i, seen[d])
		}
	}
}

// A chunk that is sound in one pack need not be in another.
func TestAChunkThatLiesInTwoPlacesIsReadInBoth(t *testing.T) {
	s := newStore(t)
	older, newer := s.add(1, 1, 2, 3), s.add(2, 1, 2, 3)
	d := digest.Of(plainOf(2))
	older.place[d] = 99
	older.chunks[d] = older.chunks[d][:5]
	rep := s.run(repo.VerifyOptions{})
	if len(newer.read) != 3 || !slices.Equal(older.read, []digest.Digest{d, d}) { // the second time to be sure
		t.Errorf("%d chunks are read of the newer snapshot, %d of the older one", len(newer.read), len(older.read))
	}
	if len(rep.Snapshots[0].Errors) != 0 || len(rep.Snapshots[1].Errors) != 1 || !slices.Equal(s.aside, []digest.Digest{d}) {
		t.Errorf("%+v, set aside %v", rep.Snapshots, s.aside)
	}
	if s.verdicts[newer.name] != manifest.VerifyOK || s.verdicts[older.name] != manifest.VerifyFailed {
		t.Errorf("verdicts %v", s.verdicts)
	}
}

func TestWhatCannotBeReadGivesNoVerdict(t *testing.T) {
	s := newStore(t)
	p := s.add(1, 1, 2, 3)
	p.fail[digest.Of(plainOf(2))] = errors.New("the network is gone")
	rep := s.run(repo.VerifyOptions{})
	if len(rep.Snapshots[0].Errors) != 1 || len(s.aside)+len(s.lost)+len(s.verdicts) > 0 {
		t.Errorf("%+v, %v, %v, %v", rep.Snapshots, s.aside, s.lost, s.verdicts)
	}
	p.fail[digest.Of(plainOf(2))] = fmt.Errorf("%w: gone", repo.ErrChunkMissing)
	s.run(repo.VerifyOptions{})
	if len(s.lost) != 1 || s.verdicts[p.name] != manifest.VerifyFailed {
		t.Errorf("lost %v, verdicts %v", s.lost, s.verdicts)
	}
}

func TestTheErrorNamesTheSlotOfTheIndex(t *testing.T) {
	s := newStore(t)
	p := s.add(1, 5, 4, 3, 2, 1)
	p.fail[p.slots[1]] = errors.New("the network is gone")
	rep := s.run(repo.VerifyOptions{})
	want := "disk.img.fidx of vm/100/1970-01-01T00:00:01Z, chunk 1: the network is gone"
	if errs := rep.Snapshots[0].Errors; len(errs) != 1 || errs[0].Error() != want {
		t.Errorf("%v, want %s", errs, want)
	}
}
