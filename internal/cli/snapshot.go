package cli

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newSnapshotCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "List, describe, protect and remove snapshots",
		Long: `A snapshot is one backup: its archives and a manifest that lists them. These
commands look at snapshots, add notes and a log, protect them from removal, and
remove them.`,
		Example: `  holdfast snapshot list vm/100
  holdfast snapshot files vm/100/latest
  holdfast snapshot notes update vm/100/2026-11-22T10:00:00Z "before the upgrade"
  holdfast snapshot protected update vm/100/2026-11-22T10:00:00Z true
  holdfast snapshot forget vm/100/2026-11-22T10:00:00Z`,
	}
	cmd.AddCommand(
		newSnapshotListCommand(a), newSnapshotFilesCommand(a), newSnapshotForgetCommand(a),
		newSnapshotNotesCommand(a), newSnapshotProtectedCommand(a), newUploadLogCommand(a), newShowLogCommand(a),
	)
	return cmd
}

type snapshotListOptions struct {
	recursive bool
	group     string
}

func newSnapshotListCommand(a *app) *cobra.Command {
	var o snapshotListOptions
	cmd := &cobra.Command{
		Use:   "list [GROUP]",
		Short: "List the snapshots of a namespace or group",
		Long: `Lists snapshots, oldest first within a group: their size, archives, result of
the last verification, and the first line of their notes. A backup that has not
finished is shown as such; so is a snapshot whose manifest cannot be read.

SIZE is the sum of the archives' sizes as they will be restored, not the space
that they take.`,
		Example: `  holdfast snapshot list
  holdfast snapshot list vm/100 --output-format json-pretty
  holdfast snapshot list --recursive`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.group = args[0]
			}
			return runSnapshotList(cmd.Context(), a, o)
		},
	}
	cmd.Flags().BoolVar(&o.recursive, "recursive", false, "namespaces below too")
	return cmd
}

// snapshotJSON is a snapshot in the words of the existing client.
type snapshotJSON struct {
	Namespace    string      `json:"ns,omitempty"`
	Type         string      `json:"backup-type"`
	ID           string      `json:"backup-id"`
	Time         int64       `json:"backup-time"`
	Size         *int64      `json:"size,omitempty"`
	Files        []fileJSON  `json:"files"`
	Owner        string      `json:"owner,omitempty"`
	Protected    bool        `json:"protected"`
	Finished     bool        `json:"finished"`
	Comment      string      `json:"comment,omitempty"`
	Fingerprint  string      `json:"fingerprint,omitempty"`
	Verification *verifyJSON `json:"verification,omitempty"`
	Problem      string      `json:"problem,omitempty"`
}

type fileJSON struct {
	Filename  string `json:"filename"`
	CryptMode string `json:"crypt-mode"`
	Size      uint64 `json:"size"`
	Csum      string `json:"csum,omitempty"`
}

type verifyJSON struct {
	State string `json:"state"`
	UPID  string `json:"upid"`
}

func filesOf(files []manifest.File) []fileJSON {
	out := []fileJSON{}
	for _, f := range files {
		out = append(out, fileJSON{f.Filename, string(f.CryptMode), f.Size, f.Csum.String()})
	}
	return out
}

func snapshotOf(s repo.SnapshotInfo) snapshotJSON {
	j := snapshotJSON{
		Namespace: s.Snapshot.NS.String(), Type: string(s.Snapshot.Type), ID: s.Snapshot.ID, Time: s.Snapshot.Time,
		Files: filesOf(s.Files), Owner: s.Owner, Protected: s.Protected, Finished: s.Finished,
		Comment: s.Notes, Fingerprint: s.Fingerprint,
	}
	if s.Problem != nil {
		j.Problem = s.Problem.Error()
	} else if s.Finished {
		j.Size = &s.Size
	}
	if s.Verify != nil {
		j.Verification = &verifyJSON{s.Verify.State, s.Verify.UPID}
	}
	return j
}

func runSnapshotList(ctx context.Context, a *app, o snapshotListOptions) error {
	var group *names.Group
	spaces := []names.Namespace{a.ns}
	if o.group != "" {
		ns, g, err := a.parseGroup(o.group)
		if err != nil {
			return err
		}
		group, spaces = &g, []names.Namespace{ns}
	}
	return a.with(ctx, func(r repo.Repository) error {
		if o.recursive {
			more, err := r.Namespaces(ctx, spaces[0])
			if err != nil {
				return err
			}
			spaces = append(spaces, more...)
		}
		out := []snapshotJSON{}
		t := ui.Table{Columns: []ui.Column{
			{Title: "SNAPSHOT"}, {Title: "SIZE", Align: ui.Right}, {Title: "FILES"}, {Title: "STATE"}, {Title: "NOTES"},
		}}
		for _, ns := range spaces {
			list, err := r.Snapshots(ctx, ns, group)
			if err != nil {
				return err
			}
			for _, s := range list {
				out = append(out, snapshotOf(s))
				size := ""
				if s.Finished && s.Problem == nil {
					size = ui.Size(s.Size)
				}
				t.Add(show(s.Snapshot), size, join(archiveNames(s.Files)), join(states(s)), ui.FirstLine(s.Notes))
			}
		}
		return a.print(out, func() error { return a.table(&t) })
	})
}

// states is what is special about a snapshot, in words.
func states(s repo.SnapshotInfo) []string {
	var out []string
	switch {
	case s.Problem != nil:
		out = append(out, s.Problem.Error())
	case !s.Finished:
		out = append(out, "unfinished")
	}
	if s.Verify != nil {
		out = append(out, map[string]string{manifest.VerifyOK: "verified", manifest.VerifyFailed: "verification failed"}[s.Verify.State])
	}
	if s.Protected {
		out = append(out, "protected")
	}
	if isEncrypted(s.Files) {
		out = append(out, "encrypted")
	} else if s.Fingerprint != "" {
		out = append(out, "signed")
	}
	return out
}

func archiveNames(files []manifest.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Archive().ClientName())
	}
	return out
}

func clientNames(files []string) []string {
	var out []string
	for _, f := range files {
		if names.Archive(f) != names.Manifest { // every snapshot has it
			out = append(out, names.Archive(f).ClientName())
		}
	}
	return out
}

func groupPath(g repo.GroupInfo) string { return names.GroupPath(g.Namespace, g.Group) }

// namespaces is the chosen namespace, and those below it if asked for.
func (a *app) namespaces(ctx context.Context, r repo.Repository, recursive bool) ([]names.Namespace, error) {
	spaces := []names.Namespace{a.ns}
	if !recursive {
		return spaces, nil
	}
	more, err := r.Namespaces(ctx, a.ns)
	return append(spaces, more...), err
}
