package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Main runs one command line and returns the exit code.
func Main(ctx context.Context, env Env, args []string) int {
	a := &app{Env: env, buckets: &openBuckets{}}
	defer a.buckets.close()
	root := a.program()
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	a.tellTraffic()
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if err != nil {
		a.report(err, cmd.CommandPath())
	}
	return exitCode(err)
}

// program is what this was called as.
func (a *app) program() *cobra.Command {
	switch a.Program {
	case pxarProgram:
		return newPxarRootCommand(a)
	case fileRestoreProgram:
		return newFileRestoreRootCommand(a)
	case tapeProgram:
		return newTapeRootCommand(a)
	case mtProgram:
		return newMtRootCommand(a)
	case mtxProgram:
		return newMtxRootCommand(a)
	}
	return newRootCommand(a)
}

// The sections of the help page.
const (
	groupMain   = "main"
	groupDisks  = "disks"
	groupManage = "manage"
	groupServer = "server"
	groupTools  = "tools"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Back up disk images and get them back",
		Long: `Holdfast backs up disk images and small files into a repository, and restores
them. A repository is a directory in the layout of a Proxmox Backup Server
datastore: a datastore opens as it is, and the server can adopt what Holdfast
wrote. Or it is a bucket of an S3-compatible object store, and named
s3://bucket/prefix?endpoint=https://host (see 'holdfast repository'), or a
datastore on a server, Holdfast's or that one, and named
[[user@realm[!token]@]host[:port]:]datastore. Chunks of data that were stored
before are never stored again.

The repository is named by --repository, HOLDFAST_REPOSITORY or PBS_REPOSITORY.
Snapshots are named type/id/time, as vm/100/2026-11-22T10:00:00Z; type/id or
type/id/latest is the newest finished one.

Environment:
  HOLDFAST_REPOSITORY, PBS_REPOSITORY
        the repository
  PBS_PASSWORD, with _FILE, _FD or _CMD behind it: or from there
        password of a server's user, or secret of an API token
  PBS_FINGERPRINT
        what the server's certificate has, if no authority vouches for it
  PBS_ENCRYPTION_PASSWORD, with _FILE, _FD or _CMD behind it: or from there
        password of the encryption key
  PBS_NEW_ENCRYPTION_PASSWORD, PBS_MASTER_PASSWORD
        the new password when one is changed; that of a private master key
  HOLDFAST_S3_ACCESS_KEY, HOLDFAST_S3_SECRET_KEY, HOLDFAST_S3_...
        who asks an object store, and how much: see 'holdfast repository'
  HOLDFAST_RUN_DIR, XDG_STATE_HOME
        where mappings are recorded; where overlays and logs lie
  HOLDFAST_VOLUME_PREFIX
        how names of mapped volumes begin
  NO_COLOR
        no colours
Every PBS_ variable can be written HOLDFAST_ instead, which wins.

Exit codes:
  0 done   1 failed   2 wrong usage   3 done, but something was skipped
  4 damage found   10 no such repository or snapshot   11 locked
  12 key, password or owner refused   130 interrupted`,
		Example: `  holdfast init /mnt/backup
  export HOLDFAST_REPOSITORY=/mnt/backup
  holdfast backup disk.img:/dev/vg0/vm-100 vm.conf:/etc/pve/qemu-server/100.conf --backup-type vm --backup-id 100
  holdfast snapshot list
  holdfast restore vm/100/latest disk.img restored.img`,
	}
	a.setUp(root)
	a.repositoryFlags(root)

	root.AddGroup(
		&cobra.Group{ID: groupMain, Title: "Backups:"},
		&cobra.Group{ID: groupDisks, Title: "Backups as disks:"},
		&cobra.Group{ID: groupManage, Title: "The repository:"},
		&cobra.Group{ID: groupServer, Title: "A server for other machines:"},
		&cobra.Group{ID: groupTools, Title: "Keys and tools:"},
	)
	section := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	section(groupMain, newBackupCommand(a), newRestoreCommand(a), newListCommand(a), newSnapshotCommand(a), newGroupCommand(a), newCatalogCommand(a))
	section(groupMain, newGuestCommand(a), newTapeCommand(a))
	section(groupDisks, newMapCommand(a), newUnmapCommand(a), newNBDCommand(a), newOverlayCommand(a), newVolumeCommand(a), newMountCommand(a), newUnmountCommand(a), newFileRestoreCommand(a))
	section(groupManage, newInitCommand(a), newVerifyCommand(a), newPruneCommand(a), newGCCommand(a), newSyncCommand(a), newNamespaceCommand(a), newStatusCommand(a), newRepositoryCommand(a))
	section(groupServer, newServerCommand(a), newProviderCommand(a))
	section(groupTools, newKeyCommand(a), newPxarCommand(a), newBenchmarkCommand(a), newDebugCommand(a), newVersionCommand(a), newCompletionCommand(a), newManCommand(a))
	root.SetHelpCommandGroupID(groupTools)
	root.InitDefaultHelpCmd()
	parents(root)
	return root
}

// repositoryFlags gives a program the flags that name the repository.
func (a *app) repositoryFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.repository, "repository", "", "the repository: a directory, dir:PATH, s3://bucket/prefix, or user@realm@host:datastore")
	f.StringVar(&a.namespace, "ns", "", "namespace inside the repository, as a/b")
	f.BoolVar(&a.showRequests, "show-requests", false, "say in the end what was asked of a bucket, and what that costs")
	complete(root, "repository", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
	complete(root, "ns", a.completeNamespaces)
}

// setUp gives a program the flags and the manners of all.
func (a *app) setUp(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.prepare() }
	root.CompletionOptions.DisableDefaultCmd = true // ours has examples
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	f := root.PersistentFlags()
	f.StringVar(&a.outFormat, "output-format", "text", "text, json or json-pretty")
	f.BoolVar(&a.progress, "progress", false, "show progress bars even where standard error is no terminal")
	complete(root, "output-format", cobra.FixedCompletions([]string{"text", "json", "json-pretty"}, cobra.ShellCompDirectiveNoFileComp))
}

// parents makes commands that only hold others answer for themselves, so that
// a wrong or missing name is a usage error.
func parents(c *cobra.Command) {
	for _, sub := range c.Commands() {
		parents(sub)
	}
	if !c.HasSubCommands() || c.Runnable() {
		return
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			var verbs []string
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					verbs = append(verbs, sub.Name())
				}
			}
			return usagef("%s needs a command: %s", c.CommandPath(), strings.Join(verbs, ", "))
		}
		err := usagef("%s has no command %q", c.CommandPath(), args[0])
		c.SuggestionsMinimumDistance = 2 // letters that may be wrong
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return hint(err, "did you mean %s?", strings.Join(near, " or "))
		}
		return err
	}
}

// exactly, atMost, atLeast are argument checks that name what is missing.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func between(low, high int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < low:
			return usagef("an argument is missing: %s", c.UseLine())
		case high >= 0 && n > high:
			return usagef("unexpected argument %q: %s", args[high], c.UseLine())
		}
		return nil
	}
}

// complete registers the completion of a flag that exists.
func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(fmt.Sprintf("completion of --%s: %v", flag, err)) // a name in this program is wrong
	}
}
