package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/probe"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type bucketInitOptions struct {
	packSize string
	days     int
	mode     string
	blindly  bool
}

func (o *bucketInitOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.packSize, "pack-size", "", "in a bucket: bytes of an object with chunks, 16M to 64M (default 56M)")
	f.IntVar(&o.days, "retention-days", 0, "in a bucket with object lock: how long nothing can be removed")
	f.StringVar(&o.mode, "retention-mode", "", "governance or compliance (default governance)")
	f.BoolVar(&o.blindly, "skip-probe", false, "do not test the object store")
	complete(cmd, "retention-mode", cobra.FixedCompletions([]string{catalog.Governance, catalog.Compliance}, noFiles))
}

// create is what the flags say of the new repository.
func (o bucketInitOptions) create() (c bucket.CreateOptions, err error) {
	if o.packSize != "" {
		if c.PackSize, err = ui.ParseSize(o.packSize); err != nil || c.PackSize < bucket.MinPackSize || c.PackSize > bucket.MaxPackSize {
			return c, usagef("--pack-size: %q is no size between 16M and 64M", o.packSize)
		}
	}
	if o.days < 0 || o.days > 36500 {
		return c, usagef("--retention-days %d does not lie between 1 and 36500", o.days)
	}
	if o.days == 0 {
		if o.mode != "" {
			return c, usagef("--retention-mode goes with --retention-days")
		}
		return c, nil
	}
	r := catalog.Retention{Mode: catalog.Governance, Days: o.days}
	switch o.mode {
	case "", catalog.Governance:
	case catalog.Compliance:
		r.Mode = catalog.Compliance
	default:
		return c, usagef("--retention-mode is governance or compliance, not %q", o.mode)
	}
	c.Retention = &r
	return c, nil
}

func runInitBucket(ctx context.Context, a *app, where bucketPlace, o initOptions) error {
	create, err := o.bucket.create()
	switch {
	case err != nil:
		return err
	case o.lazy:
		return usagef("--lazy is for directories")
	case !where.at.IsZero():
		return usagef("what was cannot be created: at=%s is for reading", where.at.Format(time.RFC3339))
	}
	s, err := a.connect(ctx, where.Address, nearEnd)
	if err != nil {
		return err
	}
	if err := freePlace(ctx, s, where); err != nil {
		return err
	}
	if !o.bucket.blindly {
		if err := a.probeForInit(ctx, s, create.Retention != nil); err != nil {
			return err
		}
	}
	create.Rand = a.Rand
	if err := bucket.Create(ctx, s, create); err != nil {
		return err
	}
	return a.initDone(where.String())
}

// freePlace refuses a place where a repository is, before a test writes there.
func freePlace(ctx context.Context, s objstore.Store, where bucketPlace) error {
	there, err := pbsbucket.Present(ctx, s)
	switch {
	case err != nil:
		return fmt.Errorf("create repository %s: %w", where, err)
	case there:
		return hint(fmt.Errorf("create repository %s: %w: a Proxmox Backup Server has its datastore there", where, repo.ErrExists), "choose another prefix")
	}
	switch _, err := bucket.Open(ctx, s, bucket.Options{Location: where.String()}); {
	case err == nil:
		return hint(fmt.Errorf("create repository %s: %w", where, repo.ErrExists), "use it as it is, or choose another prefix")
	case !errors.Is(err, repo.ErrNotFound): // also what an interrupted init left, which this one completes
		return err
	}
	return nil
}

// probeForInit tests what a repository rests on.
func (a *app) probeForInit(ctx context.Context, s objstore.Store, lock bool) error {
	a.say("testing the object store")
	r, err := probe.Run(ctx, s, probe.Options{Lock: lock, Large: 1 << 10, Now: a.Now})
	if errors.Is(err, objstore.ErrDenied) {
		return hint(err, "the test needs the rights to write objects and to remove them; --skip-probe leaves it out")
	}
	if err != nil {
		return err
	}
	var bad []string
	for _, c := range r.Checks {
		if !c.OK && (c.Needed <= probe.Several || lock && c.Name == probe.LockCheck) {
			bad = append(bad, fmt.Sprintf("%s: %v", c.Title, c.Err))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return hint(fmt.Errorf("%s is not fit for a repository: %s", s.Location(), strings.Join(bad, "; ")),
		"'holdfast repository probe' tests all that matters")
}
