// Package replicate copies snapshots from one repository to another, as the sync
// jobs of PBS do: pull and push are the same here, for both sides are a
// [repo.Repository].
//
// # What is copied
//
// The groups of a namespace and of those below it, down to a depth, that the
// filters let pass. Of each group the finished snapshots that are newer than the
// newest one at the target, oldest first: a snapshot that was removed at the target does not come back.
// TransferLast, EncryptedOnly and VerifiedOnly leave out more. Namespaces that are
// missing at the target are made.
//
// With a snapshot goes all that its manifest lists, its notes, and its client log,
// also when that was uploaded later. The verdict of a verification stays behind:
// it is about the chunks of the source. So do protection, and notes of groups.
//
// # Chunk by chunk
//
//	named by an index of the previous snapshot at the target   known, nothing is asked
//	named before in this snapshot                              known
//	the target has it                                          known
//	otherwise                                                  read, checked, stored
//
// Checked means: the CRC is right, the chunk is encrypted exactly if the manifest
// says so, and what is not encrypted has the digest and the length that the index
// says. Nothing is decrypted. An index is written anew, entry by entry, and its
// checksum compared with the manifest's.
//
// A snapshot appears at the target when all of it is there, or not at all: it is
// a session like a backup's. What an interrupted run stored of one is found again
// by the next.
//
// # Failures
//
// A snapshot that is damaged at the source is left out, and the newer ones come
// nevertheless; any other failure ends its group, for a snapshot can only be added
// behind the newest. The other groups go on. All failures are in the [Report].
// [Run] itself fails if it cannot go on at all.
//
// Vanished snapshots, groups and namespaces are removed at the target, if that is
// asked for, only where everything of the source was seen: not in a group that
// failed. Protected ones stay, and what belongs to others.
//
// # Memory
//
// [Options.Workers] times an encoded and a plain chunk: 8 × 2 × 4 MiB, 8 × 2 × 16
// MiB at most. An index of the previous snapshot at the target takes 5 to 10 bytes a chunk, and
// the digests of a snapshot up to 4 MiB; both for each group at a time. The names of all snapshots of
// a group are held.
//
// # Source
//
// proxmox-backup: src/server/{pull,push,sync}.rs; pbs-api-types/src/jobs.rs.
package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// AllDepths as a depth is all namespaces below.
const AllDepths = -1

// Options say what is copied and how. The zero value copies the groups of the root
// namespace.
type Options struct {
	From, To names.Namespace // at the source and at the target
	Depth    int             // levels of namespaces below; AllDepths: all
	Filters  Filters

	// Owner is who owns new groups at the target, and whose groups there are
	// touched. "": all are touched, and new groups belong to who the target
	// says, or to their owner at the source if KeepOwner is set.
	Owner     string
	KeepOwner bool

	RemoveVanished bool
	TransferLast   int  // only so many of the newest snapshots of a group; 0: all
	EncryptedOnly  bool // only snapshots all of whose archives are encrypted
	VerifiedOnly   bool // only snapshots that were verified at the source, with success
	// ResyncCorrupt stores damaged snapshots of the target anew, which has to be
	// a repo.Mender.
	ResyncCorrupt bool

	Groups  int               // copied at a time; 0: 1
	Workers int               // chunks copied at a time, of all groups; 0: 8
	Rate    *throttle.Limiter // of encoded bytes; nil: no limit

	Logf     func(format string, args ...any) // what is done; nil: nobody listens
	Warnf    func(format string, args ...any) // each failure, when it happens; the same
	Progress func(Stats)                      // called now and then; may be nil
}

// run is one replication.
type run struct {
	Options
	src, dst repo.Repository
	mender   repo.Mender // nil: the target is none
	slots    *slots
	count    counters

	mu     sync.Mutex // held while the functions of Options are called
	report Report
}

// Run copies from src to dst. Its error is why it could not go on; what else
// failed is in the report.
func Run(ctx context.Context, src, dst repo.Repository, o Options) (Report, error) {
	r := &run{Options: o, src: src, dst: dst}
	if r.Groups <= 0 {
		r.Groups = 1
	}
	if r.Workers <= 0 {
		r.Workers = 8
	}
	r.slots = newSlots(r.Workers)
	defer r.slots.close()
	err := r.all(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.report.Stats = r.count.stats()
	return r.report, err
}

func (r *run) all(ctx context.Context) error {
	if r.ResyncCorrupt {
		var ok bool
		if r.mender, ok = r.dst.(repo.Mender); !ok {
			return fmt.Errorf("%s: damaged snapshots can be mended in a repository on this machine only", r.dst.Location())
		}
	}
	pairs, err := r.spaces(ctx)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if err := r.space(ctx, p); err != nil {
			r.fail("namespace "+show(p.from), err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if r.RemoveVanished {
		if err := r.vanishedSpaces(ctx, pairs); err != nil {
			r.fail("vanished namespaces", err)
		}
	}
	return nil
}

// space copies the groups of one namespace.
func (r *run) space(ctx context.Context, p pair) error {
	from, err := r.src.Groups(ctx, p.from)
	if err != nil {
		return err
	}
	to, err := r.dst.Groups(ctx, p.to)
	if err != nil {
		return err
	}
	there := map[names.Group]*repo.GroupInfo{}
	for i := range to {
		there[to[i].Group] = &to[i]
	}
	eg := errgroup.Group{} // the failure of a group is not that of others
	eg.SetLimit(r.Groups)
	seen := map[names.Group]bool{}
	for _, g := range from {
		seen[g.Group] = true
		if !r.Filters.Match(g.Group) {
			continue
		}
		eg.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			if err := r.group(ctx, p, g, there[g.Group]); err != nil && ctx.Err() == nil {
				r.fail("group "+inside(p.from, g.Group.String()), err)
			}
			r.count.groups.Add(1)
			r.progress()
			return nil
		})
	}
	_ = eg.Wait()
	if !r.RemoveVanished {
		return nil
	}
	for _, g := range to {
		if ctx.Err() == nil && !seen[g.Group] && r.Filters.Match(g.Group) {
			if err := r.removeGroup(ctx, g); err != nil {
				r.fail("vanished group "+inside(p.to, g.Group.String()), err)
			}
		}
	}
	return nil
}

// mine reports whether a group of the target may be touched.
func (r *run) mine(owner string) error {
	if r.Owner == "" {
		return nil
	}
	asking, err := names.ParseAuthID(r.Owner)
	if err != nil {
		return err
	}
	holding, err := names.ParseAuthID(owner)
	if err != nil || !asking.MayUse(holding) {
		return fmt.Errorf("%w: %s, not %s", repo.ErrOwner, owner, r.Owner)
	}
	return nil
}

// removeGroup removes a group of the target that the source does not have.
func (r *run) removeGroup(ctx context.Context, g repo.GroupInfo) error {
	if r.mine(g.Owner) != nil {
		return nil // it came from elsewhere
	}
	r.logf("remove vanished group %s", inside(g.Namespace, g.Group.String()))
	res, err := r.dst.ForgetGroup(ctx, g.Namespace, g.Group)
	r.count.removedSnapshots.Add(int64(res.Removed))
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return nil
	case err != nil:
		return err
	case res.Protected > 0:
		r.logf("kept %d protected snapshots of %s", res.Protected, inside(g.Namespace, g.Group.String()))
		return nil
	}
	r.count.removedGroups.Add(1)
	return nil
}

// show is a namespace for people.
func show(ns names.Namespace) string {
	if ns.IsRoot() {
		return "(root)"
	}
	return ns.String()
}

// inside is the name of something in a namespace, for people.
func inside(ns names.Namespace, name string) string {
	if ns.IsRoot() {
		return name
	}
	return ns.String() + ": " + name
}
