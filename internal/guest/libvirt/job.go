package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// clear removes what a run of this owner left in the running domain that died,
// and sees to it that no other backup job is there.
func (g *Guest) clear(ctx context.Context, req guest.Request, def *domxml.Domain, s *site) error {
	job, err := g.job()
	if err != nil {
		return err
	}
	switch {
	case job == "":
	case strings.Contains(job, s.socket()): // we have its lock
		g.opts.Log.Warn("a backup job of a run that died is aborted", "domain", g.dom.Name)
	case g.opts.AbortJob:
		g.opts.Log.Warn("a backup job of another program is aborted", "domain", g.dom.Name)
	default:
		return fmt.Errorf("domain %s: %w: wait for its end, or abort it ('virsh domjobabort') if the program that began it is gone", g.dom.Name, ErrJob)
	}
	if job != "" {
		if err := g.abort(ctx); err != nil {
			return err
		}
	}
	if s.stale && def.AgentConnected() { // it may have died between freeze and thaw
		_, _ = g.c.l.DomainFsthaw(g.dom, nil, 0) // thaws nothing as a rule
	}
	for _, t := range targetsOf(def) {
		_ = os.Remove(g.scratch(req.Owner, t)) // libvirt refuses one that is there, with a good message
	}
	return g.clearCheckpoints(req, def)
}

// clearCheckpoints removes those of the owner that are no base.
func (g *Guest) clearCheckpoints(req guest.Request, def *domxml.Domain) error {
	all, err := g.ours(req.Owner)
	if err != nil {
		return err
	}
	keep := map[guest.Bitmap]bool{}
	for _, b := range bases(req) {
		keep[b] = true
	}
	var errs []error
	for _, b := range all {
		if !keep[b] {
			errs = append(errs, g.drop(b, targetsOf(def)))
		}
	}
	return errors.Join(errs...)
}

// job describes the backup job of the domain; empty when there is none.
func (g *Guest) job() (string, error) {
	text, err := g.c.l.DomainBackupGetXMLDesc(g.dom, 0)
	switch {
	case is(err, lv.ErrNoDomainBackup):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("backup job of domain %s: %w", g.dom.Name, err)
	}
	return text, nil
}

// abortPatience bounds the wait for a job to end that was aborted.
const abortPatience = time.Minute

// abort ends the backup job and waits until it is gone. A domain that has ended
// has none.
func (g *Guest) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, abortPatience, errors.New("it does not end"))
	defer cancel()
	for asked := false; ; {
		job, err := g.job()
		switch {
		case is(err, lv.ErrOperationInvalid), is(err, lv.ErrNoDomain): // not running, not there
			return nil
		case err != nil:
			return err
		case job == "":
			return nil
		}
		if !asked {
			err := g.c.l.DomainAbortJob(g.dom)
			if err != nil && !is(err, lv.ErrOperationInvalid) {
				return fmt.Errorf("abort the backup job of domain %s: %w", g.dom.Name, err)
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("abort the backup job of domain %s: %w", g.dom.Name, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
