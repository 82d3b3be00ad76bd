package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerS3Command(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "s3-client",
		Short: "Add, list, change and remove object stores for datastores",
		Long: `An object store speaks S3, and datastores can lie in its buckets. It is kept under
a name, with the key to it, in s3.cfg. The secret key comes from
HOLDFAST_S3_SECRET_KEY (or with _FILE, _FD or _CMD behind it), or is asked for.`,
		Example: `  holdfast server s3-client add garage --endpoint storage.example --port 3900 --region garage --path-style true --access-key GK31c2f218
  holdfast server s3-client check garage backups
  holdfast server datastore add cloud --backend type=s3,client=garage,bucket=backups`,
	}
	cmd.AddCommand(newServerS3SetCommand(a, o, true), newServerS3SetCommand(a, o, false), &cobra.Command{
		Use:               "list",
		Short:             "List object stores",
		Long:              `Lists the object stores of the configuration, without their secret keys.`,
		Example:           `  holdfast server s3-client list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerS3List(a, o) },
	}, &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget an object store",
		Long:    `Removes an object store from the configuration. One that a datastore uses stays.`,
		Example: `  holdfast server s3-client remove garage`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := o.existing(a)
			if err != nil {
				return err
			}
			return s3Error(buckets.Remove(cmd.Context(), d, args[0], ""))
		},
	}, &cobra.Command{
		Use:     "buckets NAME",
		Aliases: []string{"list-buckets"},
		Short:   "List the buckets of an object store",
		Long: `Lists the buckets that the key of an object store shows. Not every key may list
them.`,
		Example: `  holdfast server s3-client buckets garage`,
		Args:    exactly(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runServerS3Buckets(cmd.Context(), a, o, args[0]) },
	}, newServerS3CheckCommand(a, o))
	return cmd
}

func newServerS3SetCommand(a *app, o *serverOptions, add bool) *cobra.Command {
	var remove []string
	var key bool
	cmd := &cobra.Command{
		Use:     "update NAME",
		Short:   "Change an object store",
		Long:    `Changes an object store in the configuration; its secret key with --secret-key.`,
		Example: `  holdfast server s3-client update garage --rate-out 20MiB`,
		Args:    exactly(1),
	}
	if add {
		cmd.Use = "add NAME"
		cmd.Short = "Add an object store"
		cmd.Long = `Adds an object store to the configuration. Its key needs the rights to get, put,
list and delete objects in the buckets of datastores, and no others.`
		cmd.Example = `  holdfast server s3-client add amazon --endpoint '{{bucket}}.s3.{{region}}.amazonaws.com' --region eu-west-1 --access-key AKIA...`
	}
	values := propertyFlags(cmd, buckets.Properties())
	if !add {
		cmd.Flags().BoolVar(&key, "secret-key", false, "change the secret key")
		cmd.Flags().StringSliceVar(&remove, "delete", nil, "properties that are removed, separated by commas")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v := values()
		for _, k := range remove {
			v[k] = nil
		}
		return runServerS3Set(cmd.Context(), a, o, args[0], add, key, v)
	}
	return cmd
}

func runServerS3Set(ctx context.Context, a *app, o *serverOptions, id string, add, key bool, v property.Values) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	if err := buckets.CheckID(id); add && err != nil {
		return usage(err)
	}
	var p *secret.Secret
	if add || key {
		s, err := a.secrets().Get(ctx, "S3_SECRET_KEY", "secret key for the object store "+id)
		if err != nil {
			return err
		}
		p = &s
	}
	return s3Error(buckets.Set(ctx, d, id, "", add, v, p))
}

func newServerS3CheckCommand(a *app, o *serverOptions) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "check NAME BUCKET",
		Short: "See whether a bucket can be used",
		Long: `Writes an object into a bucket, reads it, and removes it: so endpoint, key, rights
and bucket are right. What else an engine must be able to do,
'holdfast repository probe' finds out.`,
		Example: `  holdfast server s3-client check garage backups`,
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := o.existing(a)
			if err != nil {
				return err
			}
			c, err := buckets.Find(d, args[0])
			if err != nil {
				return s3Error(err)
			}
			if err := c.Check(cmd.Context(), args[1], prefix); err != nil {
				return err
			}
			return a.print(map[string]string{"name": args[0], "bucket": args[1]}, func() error {
				return a.printf("bucket %s of %s can be used\n", args[1], args[0])
			})
		},
	}
	cmd.Flags().StringVar(&prefix, "store-prefix", "", "what keys begin with, as the name of a datastore")
	return cmd
}

func runServerS3List(a *app, o *serverOptions) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	all, _, err := buckets.List(d)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	t := ui.Table{Columns: []ui.Column{{Title: "NAME"}, {Title: "ENDPOINT"}, {Title: "REGION"}, {Title: "ACCESS KEY"}}}
	for _, c := range all {
		out = append(out, c.Item())
		t.Add(c.ID, c.Endpoint, c.Region, c.AccessKey)
	}
	return a.print(out, func() error { return a.table(&t) })
}

func runServerS3Buckets(ctx context.Context, a *app, o *serverOptions, id string) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	c, err := buckets.Find(d, id)
	if err != nil {
		return s3Error(err)
	}
	list, err := c.ListBuckets(ctx)
	if err != nil {
		return err
	}
	out := []map[string]string{}
	t := ui.Table{Columns: []ui.Column{{Title: "BUCKET"}}}
	for _, name := range list {
		out = append(out, map[string]string{"name": name})
		t.Add(name)
	}
	return a.print(out, func() error { return a.table(&t) })
}

func s3Error(err error) error {
	if errors.Is(err, repo.ErrNotFound) {
		return hint(err, "'holdfast server s3-client list' shows what there is")
	}
	return err
}
