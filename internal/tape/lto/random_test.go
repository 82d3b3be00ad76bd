package lto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
)

var (
	faultRounds = flag.Int("fault-rounds", 20, "how many sessions with random faults")
	faultSeed   = flag.Uint64("fault-seed", 1, "where their randomness begins")
)

// session is a tape that is used while commands fail by chance, and what is
// known to be on it.
type session struct {
	t     *testing.T
	b     *bench
	d     *lto.Drive
	rand  *rand.Rand
	known map[uint64][]byte // files that were acknowledged
	id    uint32
}

// file makes a content that names its place, and that no other has.
func (s *session) file(n uint64) []byte {
	s.id++
	b := make([]byte, 20+s.rand.IntN(3*tapefile.PayloadSize))
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint32(b[8:], s.id)
	binary.LittleEndian.PutUint64(b[12:], uint64(len(b)))
	for i := 20; i < len(b); i++ {
		b[i] = byte(s.id) + byte(i>>10)
	}
	return b
}

// whole reports whether b is a content that file could have made for place n.
func whole(b []byte, n uint64) bool {
	if len(b) < 20 || binary.LittleEndian.Uint64(b) != n || binary.LittleEndian.Uint64(b[12:]) != uint64(len(b)) {
		return false
	}
	id := binary.LittleEndian.Uint32(b[8:])
	for i := 20; i < len(b); i++ {
		if b[i] != byte(id)+byte(i>>10) {
			return false
		}
	}
	return true
}

// add puts a file behind the last one.
func (s *session) add() error {
	n, err := s.d.EndOfData(s.t.Context())
	if err != nil {
		return err
	}
	if _, taken := s.known[n]; taken {
		s.t.Fatalf("file %d is known, and the end of the data", n)
	}
	b := s.file(n)
	w, err := tape.NewWriter(s.d, tape.GiveUp)
	if err != nil {
		s.t.Fatal(err)
	}
	_, werr := w.Write(b)
	if err := errors.Join(werr, w.Finish(false)); err != nil {
		return err
	}
	if err := s.d.Sync(s.t.Context()); err != nil {
		return err
	}
	s.known[n] = b
	return nil
}

// read reads a file that is known, or perhaps another.
func (s *session) read(d *lto.Drive, n uint64) error {
	if err := d.Locate(s.t.Context(), n); err != nil {
		return err
	}
	r, err := tape.NewReader(d)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if want, ok := s.known[n]; ok && !bytes.Equal(b, want) {
		s.t.Fatalf("file %d has %d bytes, other ones than were written", n, len(b))
	}
	if !whole(b, n) {
		s.t.Fatalf("file %d looks whole, and nobody wrote it so", n)
	}
	return nil
}

// work uses the tape. After an error the drive is opened anew, as a program
// would.
func (s *session) work() {
	for range 40 {
		if s.d == nil {
			d, err := lto.Open(s.t.Context(), target.Connect(s.b.unit), lto.Config{Load: true})
			if err != nil {
				continue
			}
			s.d = d
		}
		var err error
		if len(s.known) == 0 || s.rand.IntN(3) == 0 {
			err = s.add()
		} else {
			err = s.read(s.d, uint64(s.rand.IntN(len(s.known)+2)))
		}
		if err != nil && !errors.Is(err, tape.ErrEndOfData) && s.rand.IntN(4) > 0 {
			_ = s.d.Close()
			s.d = nil
		}
	}
}

// judge looks at the tape with a sound drive.
func (s *session) judge() {
	d, err := lto.Open(s.t.Context(), target.Connect(s.b.drive), lto.Config{Load: true})
	if err != nil {
		s.t.Fatal(err)
	}
	end, err := d.EndOfData(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range s.known {
		if n >= end {
			s.t.Fatalf("file %d was acknowledged, and the tape has %d", n, end)
		}
	}
	for n := range end {
		if err := s.read(d, n); err != nil && s.known[n] != nil {
			s.t.Fatalf("file %d was acknowledged: %v", n, err)
		}
	}
}

// Commands fail by chance, the power goes, and the drive is opened again and
// again: what was acknowledged is there, and nothing looks like what it is not.
func TestRandomFaultsHarmNoFileThatWasAcknowledged(t *testing.T) {
	known := 0
	for seed := *faultSeed; seed < *faultSeed+uint64(*faultRounds); seed++ {
		synctest.Test(t, func(t *testing.T) {
			s := &session{t: t, b: newBench(t), rand: rand.New(rand.NewPCG(seed, 0)), known: map[uint64][]byte{}}
			var ways []fault.Rule
			for _, name := range sortedFaults() {
				ways = append(ways, faults()[name])
			}
			ways = append(ways, fault.Rule{Lost: true, Hook: func() {
				if err := s.b.drive.PowerCut(s.rand.IntN(4)); err != nil {
					t.Error(err)
				}
			}})
			s.b.unit.Random(seed, 0.02, ways...)
			s.work()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			s.judge()
			known += len(s.known)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if known < *faultRounds {
		t.Errorf("%d files in %d sessions are too few to tell", known, *faultRounds)
	}
	t.Logf("%d sessions, %d files were acknowledged", *faultRounds, known)
}
