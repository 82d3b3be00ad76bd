package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// Cleanup removes from the domain what a run left that died, of whatever
// repository: the backup job, sockets and scratch files; with bitmaps all of our
// checkpoints too, for a domain that is not backed up any more. A job of another
// program is aborted only with Options.AbortJob. It says what it removed.
func (g *Guest) Cleanup(ctx context.Context, bitmaps bool) (did []string, err error) {
	sites, err := filepath.Glob(filepath.Join(g.opts.RunDir, "*-"+g.UUID()))
	if err != nil {
		return nil, err
	}
	for _, dir := range sites {
		s, err := g.enter(guest.Owner(strings.TrimSuffix(filepath.Base(dir), "-"+g.UUID())))
		if err != nil {
			return did, err
		}
		ended, err := g.endJob(ctx, s.socket())
		if ended {
			did = append(did, "backup job")
		}
		if err = s.leave(err); err != nil {
			return did, err
		}
		did = append(did, "socket "+filepath.Join(dir, "nbd"))
	}
	if g.opts.AbortJob {
		ended, err := g.endJob(ctx, "")
		if err != nil {
			return did, err
		}
		if ended {
			did = append(did, "backup job of another program")
		}
	}
	if !bitmaps {
		return did, nil
	}
	return g.dropAll(did)
}

// endJob aborts the job of the domain if its description mentions something.
func (g *Guest) endJob(ctx context.Context, mentions string) (ended bool, err error) {
	active, err := g.active()
	if err != nil || !active {
		return false, err
	}
	job, err := g.job()
	if err != nil || job == "" || !strings.Contains(job, mentions) {
		return false, err
	}
	return true, g.abort(ctx)
}

// dropAll removes all of our bitmaps that libvirt or the files of a domain that
// is shut down know of.
func (g *Guest) dropAll(did []string) ([]string, error) {
	all, _, err := g.c.l.DomainListAllCheckpoints(g.dom, 1, 0)
	if err != nil {
		return did, fmt.Errorf("list checkpoints of domain %s: %w", g.dom.Name, err)
	}
	names := map[string]bool{}
	for _, c := range all {
		names[c.Name] = true
	}
	def, err := g.c.definition(g.dom, 0)
	if err != nil {
		return did, err
	}
	active, err := g.active()
	if err != nil {
		return did, err
	}
	for _, d := range def.Disks() {
		if active || !d.Holds() || d.Format != "qcow2" || d.Path == "" {
			continue
		}
		have, err := bitmapsOf(d.Path)
		if err != nil {
			return did, fmt.Errorf("disk %s: %w", d.Target, err)
		}
		for name := range have {
			names[name] = true
		}
	}
	var errs []error
	for name := range names {
		b, err := guest.ParseBitmap(name)
		if err != nil {
			continue // not ours
		}
		if err := g.drop(b, targetsOf(def)); err != nil {
			errs = append(errs, err)
			continue
		}
		did = append(did, "bitmap "+name)
	}
	return did, errors.Join(errs...)
}
