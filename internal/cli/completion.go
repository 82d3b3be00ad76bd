package cli

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use:   "completion bash|fish|powershell|zsh",
		Short: "Print the completion script for a shell",
		Long: `Prints a script that teaches a shell to complete holdfast's commands and flags,
and also the groups, snapshots and archives of the repository that
HOLDFAST_REPOSITORY, PBS_REPOSITORY or --repository names.`,
		Example: `  source <(holdfast completion bash)
  holdfast completion bash > /etc/bash_completion.d/holdfast
  holdfast completion zsh > "${fpath[1]}/_holdfast"
  holdfast completion fish > ~/.config/fish/completions/holdfast.fish`,
		Args:              exactly(1),
		ValidArgs:         shells,
		ValidArgsFunction: nil,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Stdout)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			}
			return usagef("no completion for %q: it is %s", args[0], join(shells))
		},
	}
}

// completionTime is how long a shell waits for names out of a repository.
const completionTime = 3 * time.Second

const noFiles = cobra.ShellCompDirectiveNoFileComp

// lookUp opens the repository for a completion. Whatever goes wrong, there is
// nothing to complete.
func (a *app) lookUp(cmd *cobra.Command, job func(context.Context, repo.Repository) error) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	if a.prepare() != nil {
		return
	}
	a.Asker = nil // nobody answers a shell's question
	_ = a.with(ctx, func(r repo.Repository) error { return job(ctx, r) })
}

func (a *app) completeNamespaces(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	a.lookUp(cmd, func(ctx context.Context, r repo.Repository) error {
		list, err := r.Namespaces(ctx, names.Root)
		for _, ns := range list {
			out = append(out, ns.String())
		}
		return err
	})
	return out, noFiles
}

func (a *app) completeGroups(cmd *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	a.lookUp(cmd, func(ctx context.Context, r repo.Repository) error {
		groups, err := r.Groups(ctx, a.ns)
		for _, g := range groups {
			out = append(out, g.Group.String())
		}
		return err
	})
	return out, noFiles
}

// completeSnapshots offers groups first, and a group's snapshots once it is
// written out.
func (a *app) completeSnapshots(cmd *cobra.Command, args []string, prefix string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	if strings.Count(prefix, "/") < 2 {
		out, _ = a.completeGroups(cmd, nil, prefix)
		for i, g := range out {
			out[i] = g + "/"
		}
		return out, noFiles | cobra.ShellCompDirectiveNoSpace
	}
	a.lookUp(cmd, func(ctx context.Context, r repo.Repository) error {
		p, err := a.parsePlace(prefix[:strings.LastIndexByte(prefix, '/')])
		if err != nil {
			return err
		}
		list, err := r.Snapshots(ctx, p.ns, &p.group)
		before := prefix[:strings.LastIndexByte(prefix, '/')+1]
		for _, s := range list {
			out = append(out, before+names.FormatTime(s.Snapshot.Time))
		}
		if len(list) > 0 {
			out = append(out, before+"latest")
		}
		return err
	})
	return out, noFiles
}

// completeArchives offers the archives of the snapshot named before, then files.
func (a *app) completeArchives(cmd *cobra.Command, args []string, prefix string) (out []string, _ cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeSnapshots(cmd, args, prefix)
	case 1:
		a.lookUp(cmd, func(ctx context.Context, r repo.Repository) error {
			s, err := a.snapshot(ctx, r, args[0])
			if err != nil {
				return err
			}
			info, err := findSnapshot(ctx, r, s)
			out = archiveNames(info.Files)
			return err
		})
		return out, noFiles
	}
	return nil, cobra.ShellCompDirectiveDefault
}
