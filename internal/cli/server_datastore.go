package cli

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerDatastoreCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datastore",
		Short: "Add, list, change and remove datastores",
		Long: `A datastore is a repository under a name. What is in it is the same whether it is
reached as a directory, in its bucket, or through the server.`,
		Example: `  holdfast server datastore add tank /mnt/tank --comment "the big one"
  holdfast server datastore add cloud --backend type=s3,client=garage,bucket=backups
  holdfast server datastore update tank --maintenance-mode read-only
  holdfast server datastore remove tank`,
	}
	cmd.AddCommand(newServerDatastoreAddCommand(a, o), newServerDatastoreUpdateCommand(a, o), &cobra.Command{
		Use:               "list",
		Short:             "List datastores",
		Long:              `Lists the datastores of the configuration.`,
		Example:           `  holdfast server datastore list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerDatastoreList(a, o) },
	}, &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a datastore",
		Long: `Takes a datastore out of the configuration, and all rights on it. Its data stays
where it is, and can be added again with --reuse.`,
		Example: `  holdfast server datastore remove tank`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runServerDatastoreRemove(cmd.Context(), a, o, args[0])
		},
	})
	return cmd
}

func newServerDatastoreAddCommand(a *app, o *serverOptions) *cobra.Command {
	var reuse bool
	var backend string
	var values func() property.Values
	cmd := &cobra.Command{
		Use:   "add NAME [DIR]",
		Short: "Make a datastore",
		Long: `Makes a repository in DIR as 'holdfast init' does, and gives it a name. With
--reuse there is one already, and it is left as it is.

With --backend type=s3,client=ID,bucket=NAME the repository lies in a bucket of
the object store ID (see 'holdfast server s3-client'), below the name of the
datastore, or below the prefix that prefix=PREFIX says. Other servers, and clients
without one, can use it at the same time. With max-cache-size=SIZE what was read
is kept in DIR up to that size; without it there is no DIR. What a Proxmox Backup
Server has in a bucket is taken in with --reuse, for reading.`,
		Example: `  holdfast server datastore add tank /mnt/tank
  holdfast server datastore add old /mnt/old --reuse --maintenance-mode read-only
  holdfast server datastore add cloud --backend type=s3,client=garage,bucket=backups`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := names.CheckStore(args[0]); err != nil {
				return usage(err)
			}
			add := stores.Addition{Name: args[0], Backend: backend, Reuse: reuse, Values: values()}
			if len(args) == 2 {
				var err error
				if add.Path, err = filepath.Abs(args[1]); err != nil {
					return err
				}
			} else if backend == "" {
				return usagef("name the directory of the datastore, or a --backend")
			}
			return runServerDatastoreAdd(cmd.Context(), a, o, add)
		},
	}
	cmd.Flags().StringVar(&backend, "backend", "", "what holds it, as type=s3,client=ID,bucket=NAME; a directory by default")
	cmd.Flags().BoolVar(&reuse, "reuse", false, "there is a repository already")
	values = propertyFlags(cmd, stores.Properties())
	return cmd
}

func newServerDatastoreUpdateCommand(a *app, o *serverOptions) *cobra.Command {
	var values func() property.Values
	var remove []string
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a datastore's settings",
		Long:  `Changes the settings that are given, and leaves the others as they are.`,
		Example: `  holdfast server datastore update tank --gc-schedule daily --verify-new true
  holdfast server datastore update tank --delete maintenance-mode`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := values()
			for _, key := range remove {
				v[key] = nil
			}
			return runServerDatastoreUpdate(cmd.Context(), a, o, args[0], v)
		},
	}
	cmd.Flags().StringSliceVar(&remove, "delete", nil, "settings to remove")
	values = propertyFlags(cmd, stores.Properties())
	return cmd
}

func runServerDatastoreAdd(ctx context.Context, a *app, o *serverOptions, add stores.Addition) error {
	set, err := o.stores(a)
	if err != nil {
		return err
	}
	if !add.Reuse && (ui.IsTerminal(a.Stderr) || a.progress) {
		m := a.meter("datastore "+add.Name, ui.Items)
		add.Progress = func(done, total int) { m.Update(int64(done), int64(total), "chunk directories made") }
		defer m.Done(true)
	}
	if err := set.Add(ctx, add); err != nil {
		if _, ok := errors.AsType[*stores.OccupiedError](err); ok {
			return hint(err, "--reuse takes it in as it is; or choose another place for a new one")
		}
		return err
	}
	out := map[string]string{"name": add.Name, "path": add.Path}
	where := add.Path
	if add.Backend != "" {
		out["backend"], where = add.Backend, add.Backend
	}
	return a.print(out, func() error { return a.printf("datastore %s at %s\n", add.Name, where) })
}

func runServerDatastoreUpdate(ctx context.Context, a *app, o *serverOptions, name string, v property.Values) error {
	set, err := o.stores(a)
	if err != nil {
		return err
	}
	if err := set.Update(ctx, "", name, v); err != nil {
		return err
	}
	return a.print(map[string]string{"name": name}, func() error { return a.printf("datastore %s changed\n", name) })
}

func runServerDatastoreList(a *app, o *serverOptions) error {
	set, err := o.stores(a)
	if err != nil {
		return err
	}
	list, err := set.List()
	if err != nil {
		return err
	}
	out := []map[string]string{}
	t := ui.Table{Columns: []ui.Column{{Title: "NAME"}, {Title: "PATH"}, {Title: "MAINTENANCE"}, {Title: "COMMENT"}}}
	for _, c := range list {
		item := map[string]string{"name": c.Name, "path": c.Path}
		for _, p := range c.Section().Props {
			item[p.Key] = p.Value
		}
		out = append(out, item)
		where := c.Path
		if text, ok := c.Section().Get("backend"); ok {
			where = text
		}
		t.Add(c.Name, where, c.Maintenance.Type, c.Comment)
	}
	return a.print(out, func() error { return a.table(&t) })
}

func runServerDatastoreRemove(ctx context.Context, a *app, o *serverOptions, name string) error {
	set, err := o.stores(a)
	if err != nil {
		return err
	}
	accounts, err := o.accounts(a)
	if err != nil {
		return err
	}
	if err := set.Remove(ctx, "", name); err != nil {
		return err
	}
	err = accounts.ChangeACL(ctx, "", func(acl *access.ACL) error {
		acl.ForgetBelow(access.StorePath(name, ""))
		return nil
	})
	if err != nil {
		return err
	}
	return a.print(map[string]string{"name": name}, func() error {
		return a.printf("datastore %s removed; its data stays\n", name)
	})
}
