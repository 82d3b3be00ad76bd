package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore/probe"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// newRepositoryCommand is the group of commands about repositories wherever they
// are kept.
func newRepositoryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repository",
		Short: "Find out what a place for repositories is fit for",
		Long: `Commands about places that can hold a repository, before one is made there.

A repository can lie in a bucket of an S3-compatible object store:

` + bucketHelp + `
    at=TIME                       the repository as it was at that time, for
                                  reading; as 2026-11-22T10:00:00Z

'holdfast init ADDRESS' makes one. What a Proxmox Backup Server keeps in a bucket
can be read; the prefix is the name of the datastore there.

` + bucketKeysHelp + `

  HOLDFAST_S3_CACHE, HOLDFAST_S3_CACHE_SIZE
        a directory for what was read, and its size, 1G without it; else none
  HOLDFAST_S3_RATE_UP, HOLDFAST_S3_RATE_DOWN
        bytes a second at most, as 50M
  HOLDFAST_S3_REQUESTS
        how many may be on their way at once, at most; 128 without it
  HOLDFAST_S3_PRICES
        what --show-requests calculates with: prices of 1,000 requests and of a
        GiB, as put=0.005,list=0.005,get=0.0004,down=0.09; Amazon's without it`,
		Example: `  holdfast repository probe s3://backups/test?endpoint=https://storage.example:9000`,
	}
	cmd.AddCommand(newProbeCommand(a))
	return cmd
}

const (
	bucketHelp = `  s3://BUCKET[/PREFIX]?OPTION=VALUE&...
    endpoint=https://HOST[:PORT]  the engine; Amazon's by default
    region=NAME                   us-east-1 by default
    path-style=yes|no             whether the bucket is part of the path; yes with
                                  an endpoint
    storage-class=NAME            of what is written
    sse=s3|kms:KEY                encryption by the engine`

	bucketKeysHelp = `The credentials come from HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY (the
latter also with _FILE, _FD or _CMD behind it), or from AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from the profile AWS_PROFILE of
the file ~/.aws/credentials.`
)

func newProbeCommand(a *app) *cobra.Command {
	var o probe.Options
	cmd := &cobra.Command{
		Use:   "probe ADDRESS",
		Short: "Test whether an object store keeps what it promises",
		Long: `Tests a bucket of an S3-compatible object store: whether what was written is read
and listed at once, listings are complete and in order, conditions of writes hold
when many write at once, and, with --lock, whether objects can be kept from
removal. Then it measures how long requests take. What it writes lies below a name
of its own under the address's prefix, and is removed again; only the object of
--lock stays, and can be removed after a minute.

A check with the need "always" that fails makes a store unfit. Without "several
writers" only one machine at a time may write. "extra" is what a single feature
needs. The command fails if the store is unfit.

  s3://BUCKET[/PREFIX]?OPTION=VALUE&...
    endpoint=https://HOST[:PORT]  the engine; Amazon's by default
    region=NAME                   us-east-1 by default
    path-style=yes|no             whether the bucket is part of the path; yes with
                                  an endpoint
    storage-class=NAME            of what is written
    sse=s3|kms:KEY                encryption by the engine
    checksum=crc32c|md5           what the engine verifies bodies by: md5 for one
                                  that does not know CRC-32C

The credentials come from HOLDFAST_S3_ACCESS_KEY and HOLDFAST_S3_SECRET_KEY (the
latter also with _FILE, _FD or _CMD behind it), or from AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from the profile AWS_PROFILE of
the file ~/.aws/credentials.`,
		Example: `  holdfast repository probe s3://backups
  holdfast repository probe 's3://backups/test?endpoint=https://storage.example:9000' --lock`,
		Args:              exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProbe(cmd.Context(), a, args[0], o)
		},
	}
	cmd.Flags().BoolVar(&o.Lock, "lock", false, "test object lock too; its object cannot be removed for a minute")
	return cmd
}

// probeItem is a check as JSON.
type probeItem struct {
	Check  string `json:"check"`
	Needed string `json:"needed"`
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
}

func runProbe(ctx context.Context, a *app, address string, o probe.Options) (err error) {
	at, err := s3.ParseAddress(address)
	if err != nil {
		return usage(err)
	}
	keys, err := a.bucketKeys(ctx, nearEnd)
	if err != nil {
		return err
	}
	s, err := s3.Open(at, keys) // without what hides how it is
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o.Now = a.Now
	r, runErr := probe.Run(ctx, s, o)
	if len(r.Checks) == 0 {
		return runErr
	}
	out := map[string]any{
		"fit": r.Fit(probe.Always), "several-writers": r.Fit(probe.Several),
		"put-latency": r.PutLatency.Seconds(), "get-latency": r.GetLatency.Seconds(), "put-rate": r.PutRate, "get-rate": r.GetRate,
	}
	t := ui.Table{Columns: []ui.Column{{Title: "CHECK"}, {Title: "NEEDED FOR"}, {Title: "RESULT"}}}
	var items []probeItem
	for _, c := range r.Checks {
		item, result := probeItem{Check: c.Name, Needed: c.Needed.String(), OK: c.OK}, "ok"
		if !c.OK {
			item.Error = c.Err.Error()
			result = "failed: " + item.Error
		}
		items = append(items, item)
		t.Add(c.Title, c.Needed.String(), result)
	}
	out["checks"] = items
	err = a.print(out, func() error {
		if err := a.table(&t); err != nil || runErr != nil {
			return err
		}
		_, err := fmt.Fprintf(a.Stdout, "\n1 KiB: written in %v, read in %v; 16 MiB: %s/s and %s/s\n%s\n",
			r.PutLatency.Round(time.Microsecond), r.GetLatency.Round(time.Microsecond), ui.Size(int64(r.PutRate)), ui.Size(int64(r.GetRate)), fitness(r))
		return err
	})
	if err == nil && runErr == nil && !r.Fit(probe.Always) {
		return fmt.Errorf("%s is not fit for a repository", s.Location())
	}
	return errors.Join(err, runErr)
}

func fitness(r probe.Report) string {
	switch {
	case !r.Fit(probe.Always):
		return "A repository cannot be kept here."
	case !r.Fit(probe.Several):
		return "One machine at a time may write here."
	}
	return "Several machines may write here at once."
}
