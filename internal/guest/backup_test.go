package guest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/guesttest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const chunk = 256 << 10 // four blocks of the bitmap

var group = names.Group{Type: names.VM, ID: "100"}

// job is the n-th backup.
func job(n int64) guest.Job {
	return guest.Job{
		Snapshot:   names.Snapshot{Group: group, Time: 1_700_000_000 + n},
		Repository: "memory",
		Bitmaps:    guest.Reuse,
		Options:    backup.Options{ChunkSize: chunk, Workers: 2},
	}
}

// site is a guest with two disks, one of an odd size, and a repository.
type site struct {
	*guesttest.Guest
	repo *repotest.Memory
	n    int64
}

func newSite() *site {
	s := &site{Guest: guesttest.New(), repo: repotest.New()}
	s.AddDisk("drive-scsi0", 8*chunk)
	s.AddDisk("drive-scsi1", 3*chunk+12345)
	s.Write("drive-scsi0", 0, bytes.Repeat([]byte("boot"), chunk))
	s.Write("drive-scsi1", chunk, []byte("data"))
	return s
}

// backup makes a snapshot and compares it with the guest.
func (s *site) backup(t *testing.T, change ...func(*guest.Job)) guest.Report {
	t.Helper()
	s.n++
	j := job(s.n)
	for _, c := range change {
		c(&j)
	}
	r, err := guest.Backup(t.Context(), s.repo, s.Guest, j)
	if err != nil {
		t.Fatal(err)
	}
	s.wantSnapshot(t, r, j.Options.Key)
	return r
}

func (s *site) wantSnapshot(t *testing.T, r guest.Report, key *chunkcrypt.Key) {
	t.Helper()
	snap, err := s.repo.Open(t.Context(), r.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Disks {
		got, err := snap.Content(d.Archive, key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, s.Content(d.Name)) {
			t.Fatalf("%s: %s (%s) is not what the guest had", r.Snapshot, d.Archive, d.Mode)
		}
	}
	if s.InUse() || s.repo.InUse() != 0 {
		t.Fatal("something is left open")
	}
}

func wantModes(t *testing.T, r guest.Report, want ...guest.Mode) {
	t.Helper()
	for i, d := range r.Disks {
		if d.Mode != want[i] {
			t.Errorf("%s: mode %s, want %s (%s)", d.Name, d.Mode, want[i], d.Why)
		}
	}
}

func TestSecondBackupReadsOnlyWhatIsDirty(t *testing.T) {
	s := newSite()
	wantModes(t, s.backup(t), guest.New, guest.New)
	s.Write("drive-scsi0", 5*chunk+100, []byte("changed"))
	r := s.backup(t)
	wantModes(t, r, guest.Reuse, guest.Reuse)
	if r.Total.Read != chunk {
		t.Errorf("read %d bytes, want the one dirty chunk", r.Total.Read)
	}
	if r = s.backup(t); r.Total.Read != 0 {
		t.Errorf("read %d bytes of an unchanged guest", r.Total.Read)
	}
	if b := s.Bitmaps("drive-scsi0"); len(b) != 1 {
		t.Errorf("bitmaps %v, want one", b)
	}
}

func TestDiscardedRangeIsStoredAsZeros(t *testing.T) {
	s := newSite()
	s.backup(t)
	s.Discard("drive-scsi0", 0, 2*chunk) // whole chunks
	s.Discard("drive-scsi1", chunk, guesttest.Block)
	r := s.backup(t) // compares
	wantModes(t, r, guest.Reuse, guest.Reuse)
	if r.Total.Zero.Bytes != 2*chunk+chunk {
		t.Errorf("%d bytes of zeros", r.Total.Zero.Bytes)
	}
}

func TestFailedBackupCostsNoChange(t *testing.T) {
	broken := errors.New("repository full")
	for _, op := range []string{repotest.OpBegin, repotest.OpPut, repotest.OpCreate, repotest.OpClose, repotest.OpPutBlob, repotest.OpFinish} {
		t.Run(op, func(t *testing.T) {
			s := newSite()
			s.Configs = []guest.Config{{Name: "machine.json", Data: []byte("{}")}}
			s.backup(t)
			s.Write("drive-scsi0", 0, []byte("before the failure"))
			s.repo.Fail = func(o string) error {
				if o == op {
					return broken
				}
				return nil
			}
			s.n++
			if _, err := guest.Backup(t.Context(), s.repo, s.Guest, job(s.n)); !errors.Is(err, broken) {
				t.Fatalf("err = %v", err)
			}
			s.repo.Fail = nil
			if s.InUse() || s.repo.InUse() != 0 || len(s.Bitmaps("drive-scsi0")) != 1 {
				t.Fatalf("left over: bitmaps %v", s.Bitmaps("drive-scsi0"))
			}
			s.Write("drive-scsi1", 0, []byte("after the failure"))
			wantModes(t, s.backup(t), guest.Reuse, guest.Reuse) // compares
		})
	}
}

func TestFailedFullBackupKeepsTheBitmapToo(t *testing.T) {
	for _, mode := range []guest.Mode{guest.New, guest.None} {
		s := newSite()
		s.backup(t)
		broken := errors.New("repository full")
		s.repo.Fail = func(op string) error {
			if op == repotest.OpFinish {
				return broken
			}
			return nil
		}
		s.n++
		j := job(s.n)
		j.Bitmaps = mode
		if _, err := guest.Backup(t.Context(), s.repo, s.Guest, j); !errors.Is(err, broken) {
			t.Fatalf("err = %v", err)
		}
		s.repo.Fail = nil
		wantModes(t, s.backup(t), guest.Reuse, guest.Reuse)
	}
}

func TestBrokenPointIsNotFinished(t *testing.T) {
	s := newSite()
	scratch := errors.New("scratch is full")
	s.n++
	j := job(s.n)
	closed := 0
	s.repo.Fail = func(op string) error {
		if op == repotest.OpClose {
			closed++
		}
		if closed == 2 { // all was read: only the last question tells
			s.Break(scratch)
		}
		return nil
	}
	if _, err := guest.Backup(t.Context(), s.repo, s.Guest, j); !errors.Is(err, scratch) {
		t.Fatalf("err = %v", err)
	}
	if s.repo.Snapshots() != 0 || s.InUse() {
		t.Fatal("a snapshot of a broken point is visible, or the point is still open")
	}
}

func TestBitmapOfAnotherSnapshotIsNotUsed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*site, *guest.Job)
		want   guest.Mode
	}{
		{"bitmap lost", func(s *site, _ *guest.Job) { s.DropBitmaps() }, guest.MissingRecreated},
		{"resized", func(s *site, _ *guest.Job) {
			s.Resize("drive-scsi0", 9*chunk)
			s.Resize("drive-scsi1", chunk)
		}, guest.MissingRecreated},
		{"other repository", func(_ *site, j *guest.Job) { j.Repository = "elsewhere" }, guest.New},
		{"other chunk size", func(_ *site, j *guest.Job) { j.Options.ChunkSize = 2 * chunk }, guest.New},
		{"now encrypted", func(_ *site, j *guest.Job) {
			j.Options.CryptMode, j.Options.Key = manifest.ModeEncrypt, key(1)
		}, guest.New},
		{"not wanted", func(_ *site, j *guest.Job) { j.Bitmaps = guest.New }, guest.New},
		{"none", func(_ *site, j *guest.Job) { j.Bitmaps = guest.None }, guest.None},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite()
			s.backup(t)
			r := s.backup(t, func(j *guest.Job) { tc.change(s, j) })
			wantModes(t, r, tc.want, tc.want)
		})
	}
}

func TestRefusesAPointThatUsesAnotherBitmap(t *testing.T) {
	s := newSite()
	s.backup(t)
	s.n++
	_, err := guest.Backup(t.Context(), s.repo, liar{s.Guest}, func() guest.Job { j := job(s.n); j.Bitmaps = guest.New; return j }())
	if !errors.Is(err, guest.ErrBase) || s.InUse() || s.repo.InUse() != 0 {
		t.Fatalf("err = %v", err)
	}
}

// liar says that it used a bitmap.
type liar struct{ *guesttest.Guest }

func (l liar) Begin(ctx context.Context, req guest.Request) (guest.Point, error) {
	p, err := l.Guest.Begin(ctx, req)
	for i := range p.Disks() {
		p.Disks()[i].Mode = guest.Reuse
	}
	return p, err
}

// Whatever happens between backups, what is finished is what the guest had.
func TestRandomLifeOfAGuest(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { live(t, seed) })
	}
}

func live(t *testing.T, seed uint64) {
	s, rnd := newSite(), rand.New(rand.NewPCG(seed, 1))
	broken := errors.New("injected")
	reused := 0
	for range 25 {
		for range rnd.IntN(4) {
			disturb(s, rnd)
		}
		s.n++
		j := job(s.n)
		if rnd.IntN(5) == 0 {
			j.Snapshot.ID = "101" // another group of the same repository
		}
		s.Die = rnd.IntN(6) == 0
		if rnd.IntN(3) == 0 {
			at := rnd.IntN(12)
			s.repo.Fail = func(string) error {
				if at--; at == 0 {
					return broken
				}
				return nil
			}
			j.Options.Workers = 1
		}
		r, err := guest.Backup(t.Context(), s.repo, s.Guest, j)
		s.repo.Fail = nil
		switch {
		case err == nil:
			s.wantSnapshot(t, r, nil)
			for _, d := range r.Disks {
				if d.Mode == guest.Reuse {
					reused++
				}
			}
		case !errors.Is(err, broken):
			t.Fatal(err)
		}
		if n := len(s.Bitmaps("drive-scsi0")); n > 2*2 {
			t.Fatalf("%d bitmaps", n)
		}
	}
	if reused == 0 {
		t.Error("no bitmap was ever used")
	}
}

func disturb(s *site, rnd *rand.Rand) {
	name := []string{"drive-scsi0", "drive-scsi1"}[rnd.IntN(2)]
	size := int64(len(s.Content(name)))
	switch off := rnd.Int64N(size); rnd.IntN(12) {
	case 0:
		s.DropBitmaps()
	case 1:
		s.Resize(name, size+rnd.Int64N(2*chunk)-min(chunk, size/2))
	case 2, 3:
		s.Discard(name, off, rnd.Int64N(size-off)+1)
	default:
		s.Write(name, off, bytes.Repeat([]byte{byte(rnd.Uint32())}, int(rnd.Int64N(min(size-off, 3*chunk))+1)))
	}
}

func TestSmallFilesOfPointAndJobAreStored(t *testing.T) {
	s := newSite()
	s.Configs = []guest.Config{{Name: "machine.json", Data: []byte("{}")}}
	r := s.backup(t, func(j *guest.Job) {
		j.Configs = []guest.Config{{Name: "start.sh", Data: []byte("qemu")}}
	})
	var list []string
	for _, a := range r.Archives {
		list = append(list, a.Archive.Filename)
	}
	if got := strings.Join(list, " "); got != "machine.json.blob start.sh.blob drive-scsi0.img.fidx drive-scsi1.img.fidx" {
		t.Error(got)
	}
}

func TestWhatIsStoredIsGivenUp(t *testing.T) {
	s := newSite()
	s.backup(t)
	s.Write("drive-scsi0", 3*chunk, []byte("x"))
	var img *guesttest.Image
	s.backup(t, func(j *guest.Job) {
		j.Taken = func(p guest.Point) { img = p.Disks()[0].Image.(*guesttest.Image) }
	})
	if img.GivenUp() != chunk {
		t.Errorf("%d bytes were given up, want the one chunk", img.GivenUp())
	}
}

func TestLeftoverIsReportedAndTheSnapshotStands(t *testing.T) {
	s := newSite()
	s.FailRelease = errors.New("monitor is gone")
	if r := s.backup(t); !errors.Is(r.Leftover, s.FailRelease) {
		t.Errorf("leftover = %v", r.Leftover)
	}
}

func key(b byte) *chunkcrypt.Key {
	k, err := chunkcrypt.New([32]byte{b})
	if err != nil {
		panic(err)
	}
	return k
}
