package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type verifyOptions struct {
	what           string
	ignoreVerified bool
	outdatedAfter  int
	recursive      bool
	workers        int
	key            keyOptions
}

func newVerifyCommand(a *app) *cobra.Command {
	o := verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [SNAPSHOT|GROUP]",
		Short: "Check that what is stored is what was backed up",
		Long: `Reads every archive and every chunk of the chosen snapshots and recomputes all
checksums. Without an argument it checks the namespace, with --recursive those
below too. A group such as vm/100 means all its snapshots; vm/100/latest the
newest one.

The result is stored with each snapshot. Snapshots that have one are skipped,
good or bad, unless it is older than --outdated-after days, or
--ignore-verified=false asks for all of them. A snapshot that is named with its
time is always checked.

Chunks of encrypted archives are checked by their CRC; with the key they are
also decrypted and compared in full. A chunk that is found damaged is set aside,
so that the next backup that has its data stores it again; a backup after a
failed verification reads its source in full for that reason.

Exit code 4: damage was found. Exit code 3: something could not be looked at.`,
		Example: `  holdfast verify
  holdfast verify vm/100/latest
  holdfast verify vm/100 --outdated-after 30
  holdfast verify --ignore-verified=false --recursive --keyfile key.json`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.what = args[0]
			}
			return runVerify(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.ignoreVerified, "ignore-verified", true, "skip snapshots that were verified before")
	f.IntVar(&o.outdatedAfter, "outdated-after", 0, "verify again after so many days (0: never)")
	f.BoolVar(&o.recursive, "recursive", false, "namespaces below too")
	f.IntVar(&o.workers, "workers", 0, "chunks checked at a time (0: by the number of CPUs)")
	o.key.readFlags(cmd)
	return cmd
}

func runVerify(ctx context.Context, a *app, o verifyOptions) error {
	if o.outdatedAfter < 0 || o.workers < 0 {
		return usagef("--outdated-after and --workers cannot be negative")
	}
	v := repo.VerifyOptions{
		Namespace: a.ns, Recursive: o.recursive, IgnoreVerified: o.ignoreVerified,
		OutdatedAfter: time.Duration(o.outdatedAfter) * 24 * time.Hour, Workers: o.workers,
	}
	var p place
	if o.what != "" {
		var err error
		if p, err = a.parsePlace(o.what); err != nil {
			return err
		}
		if o.recursive {
			return usagef("--recursive goes with a namespace, not with %s", o.what)
		}
		v.Namespace = p.ns
	}
	if o.key.given() {
		if err := a.notOnServer("verify with a key"); err != nil {
			return hint(err, "without a key the server checks encrypted data by its checksums")
		}
		k, err := a.loadKey(ctx, o.key)
		if err != nil {
			return err
		}
		v.Key = k
	}
	a.fresh = true
	return a.with(ctx, func(r repo.Repository) error {
		if err := p.verify(ctx, r, &v); err != nil {
			return err
		}
		start := a.Now()
		m := a.meter("verify", ui.Bytes)
		v.Progress = func(g repo.VerifyProgress) {
			m.Update(g.Bytes, 0, fmt.Sprintf("snapshot %d of %d, %d chunks, %s of data", min(g.Done+1, g.Total), g.Total, g.Chunks, ui.Size(g.PlainBytes)))
		}
		rep, err := r.Verify(ctx, v)
		m.Done(err == nil)
		if err != nil {
			return err
		}
		if err := a.print(reportOf(rep), func() error { return a.verifyText(rep, a.Now().Sub(start)) }); err != nil {
			return err
		}
		return verifyVerdict(rep)
	})
}

// verify narrows the options down to a group or snapshot.
func (p place) verify(ctx context.Context, r repo.Repository, v *repo.VerifyOptions) error {
	switch {
	case p.group == (names.Group{}):
		return nil
	case p.exact || p.latest:
		s, err := p.resolve(ctx, r)
		if err != nil {
			return err
		}
		if _, err := findSnapshot(ctx, r, s); err != nil {
			return err
		}
		v.Snapshot = &s
		v.IgnoreVerified = v.IgnoreVerified && !p.exact
		return nil
	}
	v.Group = &p.group
	return groupExists(ctx, r, p.ns, p.group)
}

type verifyReportJSON struct {
	Snapshots []verifiedJSON `json:"snapshots"`
	Chunks    *int64         `json:"chunks"` // null when the server does not say
	Bytes     *int64         `json:"bytes"`
}

type verifiedJSON struct {
	Snapshot string   `json:"snapshot"`
	State    string   `json:"state"` // ok, failed, unknown, skipped
	Skipped  string   `json:"skipped,omitempty"`
	Errors   []string `json:"errors,omitempty"`
}

func reportOf(rep repo.VerifyReport) verifyReportJSON {
	out := verifyReportJSON{Snapshots: []verifiedJSON{}}
	if !rep.Uncounted {
		out.Chunks, out.Bytes = &rep.Chunks, &rep.Bytes
	}
	for _, s := range rep.Snapshots {
		j := verifiedJSON{Snapshot: show(s.Snapshot), State: verdict(s), Skipped: s.Skipped}
		for _, err := range s.Errors {
			j.Errors = append(j.Errors, err.Error())
		}
		out.Snapshots = append(out.Snapshots, j)
	}
	return out
}

// verdict keeps damage apart from what could not be found out.
func verdict(s repo.VerifiedSnapshot) string {
	switch {
	case s.Skipped != "":
		return "skipped"
	case len(s.Errors) == 0:
		return "ok"
	}
	for _, err := range s.Errors {
		if exitCode(err) == exitDamaged {
			return "failed"
		}
	}
	return "unknown"
}

func (a *app) verifyText(rep repo.VerifyReport, span time.Duration) error {
	p := a.palette(a.Stdout)
	paint := map[string]func(string) string{"ok": p.Green, "failed": p.Red, "unknown": p.Yellow, "skipped": p.Dim}
	for _, s := range rep.Snapshots {
		word := verdict(s)
		line := show(s.Snapshot) + "  "
		if _, err := fmt.Fprint(a.Stdout, ui.Clean(line), paint[word](word)); err != nil {
			return err
		}
		tail := "\n"
		if s.Skipped != "" {
			tail = ": " + s.Skipped + "\n"
		}
		for _, err := range s.Errors {
			tail += "    " + ui.Clean(err.Error()) + "\n"
		}
		if err := a.printf("%s", tail); err != nil {
			return err
		}
	}
	if rep.Uncounted {
		return a.printf("%s in %s\n", plural(len(rep.Snapshots), "snapshot"), ui.Duration(span))
	}
	return a.printf("%s, %s, %s read in %s\n", plural(len(rep.Snapshots), "snapshot"), plural(rep.Chunks, "chunk"), ui.Size(rep.Bytes), ui.Duration(span))
}

func verifyVerdict(rep repo.VerifyReport) error {
	bad, unknown, busy := 0, 0, 0
	var why error
	for _, s := range rep.Snapshots {
		switch verdict(s) {
		case "failed":
			bad++
		case "unknown":
			unknown++
			why = errors.Join(s.Errors...)
		case "skipped":
			if s.Skipped == "in use" {
				busy++
			}
		}
	}
	switch {
	case bad > 0:
		return hint(
			mark(errDamaged, "damaged: %d of %s", bad, plural(len(rep.Snapshots), "snapshot")),
			"back up again: the next backup of a group reads everything and stores damaged chunks anew if the source still has their data",
		)
	case unknown > 0:
		return fmt.Errorf("%w: %s could not be checked: %w", errSkipped, plural(unknown, "snapshot"), why)
	case busy > 0:
		return hint(fmt.Errorf("%w: %s in use", errSkipped, plural(busy, "snapshot")), "verify again later")
	}
	return nil
}
