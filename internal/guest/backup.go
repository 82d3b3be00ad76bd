package guest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Job is the backup of one guest.
type Job struct {
	Snapshot names.Snapshot
	Owner    string // auth-id of the group, as in [backup.Job]
	Notes    string

	// Repository identifies the repository for the names of bitmaps, as its
	// location does.
	Repository string
	// Bitmaps is the most that bitmaps may be used: None uses and begins none,
	// New begins some but reads everything, Reuse is the rule.
	Bitmaps Mode

	Configs []Config // besides those of the point

	Master     *rsa.PublicKey // as in [backup.Job]
	KeyCreated time.Time

	Options backup.Options
	// Started is as in [backup.Job].
	Started func(name names.Archive, size int64)
	// Taken is called when the point is taken; may be nil.
	Taken func(Point)
}

// Report says what became of a backup.
type Report struct {
	backup.Report
	Disks []DiskReport
	// Leftover is why something stayed behind in the guest although the snapshot
	// is finished; nil as a rule. The next backup of the guest removes it.
	Leftover error
}

// DiskReport says how the bitmap of a disk was used.
type DiskReport struct {
	Name    string
	Archive names.Archive
	Size    int64
	Mode    Mode
	Why     string
}

// ErrBase is wrapped when a backend uses a bitmap that does not count from the
// previous snapshot.
var ErrBase = errors.New("the dirty bitmap does not belong to the previous snapshot")

// Backup makes one snapshot of a guest. After an error nothing of it is
// visible, and the guest is as if nothing had been tried, unless the error says
// so.
func Backup(ctx context.Context, in backup.Beginner, from Backend, job Job) (Report, error) {
	if job.Options.ChunkSize == 0 {
		job.Options.ChunkSize = backup.DefaultChunkSize
	}
	s, err := in.Begin(ctx, repo.Begin{Snapshot: job.Snapshot, Owner: job.Owner})
	if err != nil {
		return Report{}, err
	}
	req, err := job.request(s)
	if err != nil {
		return Report{}, errors.Join(err, s.Abort())
	}
	p, err := from.Begin(ctx, req)
	if err != nil {
		return Report{}, errors.Join(err, s.Abort())
	}
	if job.Taken != nil {
		job.Taken(p)
	}
	report, err := job.store(ctx, s, p, req)
	left := p.Release(context.WithoutCancel(ctx), err == nil)
	if err != nil {
		return Report{}, errors.Join(err, left)
	}
	report.Leftover = left
	return report, nil
}

// request chooses the base; see the package comment.
func (j *Job) request(s repo.Session) (Request, error) {
	owner := OwnerOf(j.Repository, j.Snapshot.NS, j.Snapshot.Group)
	req := Request{Owner: owner, ChunkSize: j.Options.ChunkSize}
	if prev := s.Previous(); prev != nil {
		req.Keep = map[string]Bitmap{}
		for name, b := range MarkOf(prev.Manifest(), owner) {
			if disk, ok := diskOf(name); ok {
				req.Keep[disk] = b
			}
		}
		if j.Bitmaps == Reuse {
			req.Base = bases(s, prev.Manifest(), owner, j.Options)
		}
	}
	if j.Bitmaps == None {
		return req, nil
	}
	var err error
	req.New, err = NewBitmap(owner, j.Snapshot.Time, rand.Reader)
	return req, err
}

// bases lists the disks whose digests of the previous snapshot can be taken
// over.
func bases(s repo.Session, prev *manifest.Manifest, owner Owner, opts backup.Options) map[string]Base {
	base := map[string]Base{}
	for name, b := range MarkOf(prev, owner) {
		disk, ok := diskOf(name)
		f, listed := prev.File(string(name))
		if ok && listed && backup.Reusable(s, name, int64(f.Size), opts) == "" {
			base[disk] = Base{Bitmap: b, Size: int64(f.Size)}
		}
	}
	return base
}

// store writes the point and finishes the snapshot, or aborts the session.
func (j *Job) store(ctx context.Context, s repo.Session, p Point, req Request) (Report, error) {
	w, err := j.plan(p, req)
	if err != nil {
		return Report{}, errors.Join(err, s.Abort())
	}
	r, err := backup.Fill(ctx, s, backup.Job{
		Snapshot: j.Snapshot, Owner: j.Owner, Notes: j.Notes,
		Sources: w.sources,
		Master:  j.Master, KeyCreated: j.KeyCreated,
		Options: j.Options,
		Started: j.Started,
		Seal: func(ctx context.Context, m *manifest.Manifest) error {
			if err := p.Intact(ctx); err != nil {
				return fmt.Errorf("what was read is not what the guest had at one moment: %w", err)
			}
			return w.mark.Put(m)
		},
	})
	return Report{Report: r, Disks: w.disks}, err
}
