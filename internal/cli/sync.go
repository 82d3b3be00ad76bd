package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/throttle"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type syncOptions struct {
	other    string // the other repository
	otherNS  string
	remote   string        // its server, as a server's configuration has it
	config   serverOptions // that configuration
	password string        // file with the password there
	depth    int
	filters  []string
	owner    string
	rate     string
	parallel int
	run      replicate.Options
}

func newSyncCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Copy snapshots from one repository to another",
		Long: `Brings the snapshots of one repository to another: pull from another one into the
repository that --repository names, push the other way. Only what is missing is
copied, and a snapshot is at the target when all of it is there, or not at all.
Encrypted snapshots are copied without their key.

Of each group the snapshots that are newer than the newest at the target are
copied, oldest first. One that was removed at the target does not come back.

The other repository can be on a server too. Its password comes from
--remote-password-file or HOLDFAST_REMOTE_PASSWORD (or with _FILE, _FD or _CMD
behind it) and its fingerprint from HOLDFAST_REMOTE_FINGERPRINT; where these are
not set, they are those of --repository. Or both come from the configuration of a
server of yours, which --remote and --config name.`,
		Example: `  holdfast sync pull /mnt/backup --repository /mnt/second
  holdfast sync push /mnt/usb --ns prod --max-depth 0 --transfer-last 3
  holdfast sync push 'sync@pbs!one@far.example.org:tank' --remote-password-file /etc/holdfast/far
  holdfast sync pull tank --remote far --config /etc/holdfast/server`,
	}
	cmd.AddCommand(newSyncDirection(a, true), newSyncDirection(a, false))
	return cmd
}

func newSyncDirection(a *app, pull bool) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "push TARGET",
		Short: "Copy snapshots to another repository",
		Long: `Copies from the repository to TARGET. --ns is the namespace that is copied,
--remote-ns where it goes. See 'holdfast sync --help' for what is copied.

Exit code 3: something could not be copied. Exit code 4: damage was found at the
source; what is damaged was left out.`,
		Example: `  holdfast sync push /mnt/usb
  holdfast sync push /mnt/usb --remove-vanished --group-filter type:vm --group-filter exclude:group:vm/100`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.other = args[0]
			return runSync(cmd.Context(), a, o, pull)
		},
	}
	if pull {
		cmd.Use = "pull SOURCE"
		cmd.Short = "Copy snapshots from another repository"
		cmd.Long = `Copies from SOURCE into the repository. --remote-ns is the namespace that is
copied, --ns where it goes. See 'holdfast sync --help' for what is copied.

With --resync-corrupt, snapshots of the repository that failed their last
verification are stored anew from SOURCE, if they are of the same backup.

Exit code 3: something could not be copied. Exit code 4: damage was found at the
source; what is damaged was left out.`
		cmd.Example = `  holdfast sync pull /mnt/backup --repository /mnt/second
  holdfast sync pull /mnt/backup --repository /mnt/second --remote-ns prod --ns copies/prod --remove-vanished`
	}
	f := cmd.Flags()
	f.StringVar(&o.remote, "remote", "", "the other repository is a datastore of this server, as 'holdfast server remote' knows it")
	f.StringVar(&o.config.config, "config", "", "directory with the configuration of the server that knows --remote")
	f.StringVar(&o.password, "remote-password-file", "", "file with the password for the other repository, in its first line")
	f.StringVar(&o.otherNS, "remote-ns", "", "namespace in the other repository, as a/b")
	f.IntVar(&o.depth, "max-depth", replicate.AllDepths, "levels of namespaces below (-1: all)")
	f.StringArrayVar(&o.filters, "group-filter", nil, "[include:|exclude:]type:TYPE, group:GROUP or regex:RE; can be given again")
	f.BoolVar(&o.run.RemoveVanished, "remove-vanished", false, "remove at the target what the source does not have any more")
	f.IntVar(&o.run.TransferLast, "transfer-last", 0, "copy only so many of the newest snapshots of a group (0: all)")
	f.BoolVar(&o.run.EncryptedOnly, "encrypted-only", false, "copy only snapshots all of whose archives are encrypted")
	f.BoolVar(&o.run.VerifiedOnly, "verified-only", false, "copy only snapshots that were verified at the source")
	if pull {
		f.BoolVar(&o.run.ResyncCorrupt, "resync-corrupt", false, "store damaged snapshots anew")
	}
	f.StringVar(&o.owner, "owner", "", "owner of new groups, and whose groups are touched (default: the source's owner, and all; on a server: who logs in)")
	f.StringVar(&o.rate, "rate", "", "copy at most so many bytes a second, as 50M")
	f.IntVar(&o.parallel, "groups", 1, "groups copied at a time")
	f.IntVar(&o.run.Workers, "workers", 0, "chunks copied at a time (0: 8)")
	return cmd
}

// options reads what the flags say.
func (o syncOptions) options(a *app, pull bool) (r replicate.Options, err error) {
	r = o.run
	other, err := names.ParseNamespace(o.otherNS)
	if err != nil {
		return r, usage(fmt.Errorf("--remote-ns: %w", err))
	}
	r.From, r.To = a.ns, other
	if pull {
		r.From, r.To = other, a.ns
	}
	if r.Filters, err = replicate.ParseFilters(o.filters); err != nil {
		return r, usage(err)
	}
	if o.owner != "" {
		if _, err := names.ParseAuthID(o.owner); err != nil {
			return r, usage(fmt.Errorf("--owner: %w", err))
		}
	}
	if o.depth < replicate.AllDepths || r.TransferLast < 0 || o.parallel < 1 || r.Workers < 0 {
		return r, usagef("--max-depth, --transfer-last, --groups and --workers cannot be that small")
	}
	r.Depth, r.Owner, r.Groups = o.depth, o.owner, o.parallel
	if o.rate != "" {
		n, err := ui.ParseSize(o.rate)
		if err != nil || n <= 0 {
			return r, usagef("--rate: %q is no speed: write bytes a second, as 50M", o.rate)
		}
		r.Rate = throttle.New(n)
	}
	return r, nil
}

// place is the other repository. remote is its server, if a configuration has it.
func (o syncOptions) place(a *app) (l location, remote *jobs.Remote, err error) {
	if o.remote == "" {
		l, err = parseLocation(o.other)
		return l, nil, err
	}
	if o.password != "" {
		return l, nil, usagef("--remote-password-file: the password of --remote is in the configuration")
	}
	if err := names.CheckStore(o.other); err != nil {
		return l, nil, usage(fmt.Errorf("with --remote a datastore is named: %w", err))
	}
	d, err := o.config.existing(a)
	if err != nil {
		return l, nil, err
	}
	r, err := jobs.FindRemote(d, o.remote)
	if err != nil {
		return l, nil, jobError(err)
	}
	return location{server: addressOf(r, o.other)}, &r, nil
}

// open opens the other repository.
func (o syncOptions) open(ctx context.Context, a *app, where location, remote *jobs.Remote) (repo.Repository, error) {
	if remote != nil {
		return a.remotes().Open(ctx, *remote, o.other)
	}
	if o.password != "" {
		return a.pointing("HOLDFAST_"+farEnd.password+"_FILE", o.password).openLocation(ctx, where, farEnd)
	}
	return a.openLocation(ctx, where, farEnd)
}

// pointing is the app with a variable set, and none that would count before it.
func (a *app) pointing(name, value string) *app {
	b := *a
	b.LookupEnv = func(asked string) (string, bool) {
		switch {
		case asked == name:
			return value, true
		case strings.HasPrefix(asked, strings.TrimSuffix(name, "_FILE")):
			return "", false
		}
		return a.LookupEnv(asked)
	}
	return &b
}

func runSync(ctx context.Context, a *app, o syncOptions, pull bool) error {
	opt, err := o.options(a, pull)
	if err != nil {
		return err
	}
	other, remote, err := o.place(a)
	if err != nil {
		return err
	}
	target := other
	if pull {
		if target, err = a.location(); err != nil {
			return err
		}
	}
	switch {
	case opt.Owner != "":
	case !target.onServer():
		opt.KeepOwner = true
	default: // on a server groups belong to who asks
		opt.Owner = target.server.Auth.String()
	}
	return a.with(ctx, func(here repo.Repository) (err error) {
		there, err := o.open(ctx, a, other, remote)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, there.Close()) }()
		src, dst := here, there
		if pull {
			src, dst = there, here
		}
		m := a.meter("sync", ui.Bytes)
		opt.Progress = func(s replicate.Stats) {
			m.Update(s.Bytes, 0, fmt.Sprintf("%s, %s", plural(s.Snapshots, "snapshot"), plural(s.Chunks, "chunk")))
		}
		opt.Logf = func(format string, args ...any) { a.say(format, args...) }
		opt.Warnf = a.warn
		rep, err := replicate.Run(ctx, src, dst, opt)
		m.Done(err == nil)
		if err != nil {
			return err
		}
		if err := a.print(syncOf(rep), func() error { return a.syncText(rep) }); err != nil {
			return err
		}
		return syncVerdict(rep)
	})
}

// syncJSON is a report.
type syncJSON struct {
	Groups            int64         `json:"groups"`
	Snapshots         int64         `json:"snapshots"`
	Mended            int64         `json:"mended"`
	Chunks            int64         `json:"chunks"`
	Known             int64         `json:"known-chunks"`
	Bytes             int64         `json:"bytes"`
	RemovedSnapshots  int64         `json:"removed-snapshots"`
	RemovedGroups     int64         `json:"removed-groups"`
	RemovedNamespaces int64         `json:"removed-namespaces"`
	Failures          []failureJSON `json:"failures"`
}

type failureJSON struct {
	What  string `json:"what"`
	Error string `json:"error"`
}

func syncOf(r replicate.Report) syncJSON {
	j := syncJSON{
		Groups: r.Groups, Snapshots: r.Snapshots, Mended: r.Mended, Chunks: r.Chunks, Known: r.Known, Bytes: r.Bytes,
		RemovedSnapshots: r.RemovedSnapshots, RemovedGroups: r.RemovedGroups, RemovedNamespaces: r.RemovedNamespaces,
		Failures: []failureJSON{},
	}
	for _, f := range r.Failures {
		j.Failures = append(j.Failures, failureJSON{f.What, f.Err.Error()})
	}
	return j
}

func (a *app) syncText(r replicate.Report) error {
	text := fmt.Sprintf("%s copied, %s in %s; %s there already", plural(r.Snapshots, "snapshot"), ui.Size(r.Bytes), plural(r.Chunks, "chunk"), plural(r.Known, "chunk"))
	if r.Mended > 0 {
		text += fmt.Sprintf("; %s mended", plural(r.Mended, "snapshot"))
	}
	if n := r.RemovedSnapshots + r.RemovedNamespaces; n > 0 {
		text += fmt.Sprintf("; removed: %s, %s, %s", plural(r.RemovedSnapshots, "snapshot"), plural(r.RemovedGroups, "group"), plural(r.RemovedNamespaces, "namespace"))
	}
	return a.printf("%s\n", text)
}

// syncVerdict keeps damage apart from what could not be done.
func syncVerdict(r replicate.Report) error {
	if len(r.Failures) == 0 {
		return nil
	}
	for _, f := range r.Failures {
		if exitCode(f.Err) == exitDamaged {
			return hint(mark(errDamaged, "%s failed, damage among them: %s", plural(len(r.Failures), "thing"), f.What),
				"verify the source; what is damaged there was left out, and is left out from now on once newer snapshots are at the target")
		}
	}
	return hint(mark(errSkipped, "finished, but %s could not be done", plural(len(r.Failures), "thing")),
		"run it again: what has been copied is not copied twice")
}
