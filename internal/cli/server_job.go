package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// jobKinds are the kinds that commands know, by the words for them.
func jobKinds() map[string]jobs.Kind {
	kinds := map[string]jobs.Kind{}
	for _, k := range jobs.Kinds() {
		kinds[k.Word()] = k
	}
	return kinds
}

func parseJobKind(word string) (jobs.Kind, error) {
	k, ok := jobKinds()[word]
	if !ok {
		return "", usagef("%q is no kind of job: want gc, prune, verify, sync or tape", word)
	}
	return k, nil
}

func newServerJobCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "job",
		Short: "Schedule garbage collections, prunings, verifications, syncs and backups to tape",
		Long: `Jobs are what a server does by itself. A job has a kind, gc, prune, verify, sync
or tape, and an id; that of gc is the name of a datastore. It runs when a time
of its schedule has come, a calendar event such as daily or 'mon..fri 02:30',
and once for all times that were missed. A server that runs takes notice of
changes within a minute.`,
		Example: `  holdfast server job update gc tank --gc-schedule daily
  holdfast server job add prune nightly --store tank --keep-daily 7 --keep-weekly 4 --schedule 02:30
  holdfast server job add sync offsite --store tank --remote far --remote-store tank --schedule hourly
  holdfast server job run sync offsite`,
	}
	cmd.AddCommand(newServerJobListCommand(a, o), newServerJobAddCommand(a, o), newServerJobUpdateCommand(a, o), &cobra.Command{
		Use:   "remove KIND ID",
		Short: "Remove a job",
		Long: `Removes a job, and what is known of its runs. Of gc it removes the schedule. A job
that runs is not stopped.`,
		Example: `  holdfast server job remove prune nightly`,
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runServerJobRemove(cmd.Context(), a, o, args[0], args[1])
		},
	}, &cobra.Command{
		Use:   "run KIND ID",
		Short: "Run a job now",
		Long: `Runs a job in this process, whatever its schedule says, and shows its log. It does
not run twice at a time, here and in the server.`,
		Example: `  holdfast server job run verify weekly`,
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runServerJobRun(cmd.Context(), a, o, args[0], args[1])
		},
	})
	return cmd
}

// jobExamples are of adding and of changing a job.
var jobExamples = map[jobs.Kind][2]string{
	jobs.GC:       {"", "  holdfast server job update gc tank --gc-schedule daily"},
	jobs.OldPrune: {"", "  holdfast server job update datastore-prune tank --prune-schedule daily --keep-last 3"},
	jobs.Prune: {
		"  holdfast server job add prune nightly --store tank --keep-daily 7 --keep-weekly 4 --schedule 02:30",
		"  holdfast server job update prune nightly --keep-weekly 8 --delete comment",
	},
	jobs.Verify: {
		`  holdfast server job add verify weekly --store tank --outdated-after 30 --schedule "sat 18:15"`,
		`  holdfast server job update verify weekly --schedule "sun 06:00"`,
	},
	jobs.Sync: {
		"  holdfast server job add sync offsite --store tank --remote far --remote-store tank --schedule hourly",
		"  holdfast server job update sync offsite --group-filter type:vm --rate-in 10MiB",
	},
	jobs.Tape: {
		"  holdfast server job add tape weekly --store tank --pool offsite --drive drive0 --schedule \"sat 20:00\"",
		"  holdfast server job update tape weekly --eject-media true",
	},
}

func newServerJobAddCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "add",
		Short:   "Add a job",
		Long:    `Adds a job to the configuration. Without a schedule it runs when it is told to.`,
		Example: `  holdfast server job add prune nightly --store tank --keep-daily 7 --schedule 02:30`,
	}
	for _, k := range []jobs.Kind{jobs.Prune, jobs.Verify, jobs.Sync, jobs.Tape} {
		sub := &cobra.Command{
			Use:     k.Word() + " ID",
			Short:   "Add a " + k.Word() + " job",
			Long:    "Adds a " + k.Word() + " job to the configuration.",
			Example: jobExamples[k][0],
			Args:    exactly(1),
		}
		values := propertyFlags(sub, jobs.Properties(k))
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			return o.changeJob(cmd.Context(), a, k, args[0], func(ctx context.Context) error {
				d, err := o.existing(a)
				if err != nil {
					return err
				}
				return jobs.Add(ctx, d, k, args[0], values())
			})
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

func newServerJobUpdateCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Change a job",
		Long: `Changes a job in the configuration. Its schedule counts from now on: a time that
is over today does not come today.`,
		Example: `  holdfast server job update gc tank --gc-schedule daily`,
	}
	for _, k := range jobs.Kinds() {
		var remove []string
		sub := &cobra.Command{
			Use:     k.Word() + " ID",
			Short:   "Change a " + k.Word() + " job",
			Long:    "Changes a " + k.Word() + " job in the configuration.",
			Example: jobExamples[k][1],
			Args:    exactly(1),
		}
		values := propertyFlags(sub, jobs.Properties(k))
		sub.Flags().StringSliceVar(&remove, "delete", nil, "properties that are removed, separated by commas")
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			v := values()
			for _, key := range remove {
				v[key] = nil
			}
			if len(v) == 0 {
				return usagef("nothing to change: name properties, or --delete")
			}
			return o.changeJob(cmd.Context(), a, k, args[0], func(ctx context.Context) error {
				d, err := o.existing(a)
				if err != nil {
					return err
				}
				return jobs.Change(ctx, d, k, args[0], "", v)
			})
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

// changeJob changes a job and lets its schedule count from now on.
func (o *serverOptions) changeJob(ctx context.Context, a *app, k jobs.Kind, id string, change func(context.Context) error) error {
	states, err := o.states(a)
	if err != nil {
		return err
	}
	if err := change(ctx); err != nil {
		return jobError(err)
	}
	return states.Touch(string(k)+"-"+id, a.Now())
}

// states are those of the jobs of the configuration.
func (o *serverOptions) states(a *app) (jobs.States, error) {
	d, err := o.existing(a)
	if err != nil {
		return jobs.States{}, err
	}
	return jobs.OpenStates(server.JobDir(placed(d, server.Options{Config: d})))
}

// jobError tells what to do about a job that is not there.
func jobError(err error) error {
	if errors.Is(err, jobs.ErrNotFound) {
		return hint(err, "'holdfast server job list' and 'holdfast server remote list' show what there is")
	}
	return err
}

func newServerJobListCommand(a *app, o *serverOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list [KIND]",
		Short: "List jobs",
		Long: `Lists the jobs of the configuration, when they run next, and how their last run
ended. A job that cannot be run says why.`,
		Example: `  holdfast server job list
  holdfast server job list sync --output-format json-pretty`,
		Args: between(0, 1),
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"gc", "prune", "verify", "sync"},
			cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error { return runServerJobList(a, o, args) },
	}
}

// jobJSON is a job in a listing; its properties are those of the file.
type jobJSON struct {
	Kind       string              `json:"kind"`
	ID         string              `json:"id"`
	Store      string              `json:"store"`
	Schedule   string              `json:"schedule,omitempty"`
	NextRun    int64               `json:"next-run,omitempty"`
	LastUPID   string              `json:"last-run-upid,omitempty"`
	LastState  string              `json:"last-run-state,omitempty"`
	LastEnd    int64               `json:"last-run-endtime,omitempty"`
	Problem    string              `json:"problem,omitempty"`
	Properties map[string][]string `json:"properties"`
}

func runServerJobList(a *app, o *serverOptions, args []string) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	states, err := o.states(a)
	if err != nil {
		return err
	}
	var only jobs.Kind
	if len(args) == 1 {
		if only, err = parseJobKind(args[0]); err != nil {
			return err
		}
	}
	all, err := jobs.Load(d)
	if err != nil {
		return err
	}
	out := []jobJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "KIND"}, {Title: "ID"}, {Title: "STORE"}, {Title: "SCHEDULE"}, {Title: "NEXT"}, {Title: "LAST RUN"}, {Title: "COMMENT"}}}
	for _, j := range all {
		if only != "" && j.Kind != only {
			continue
		}
		st, ok, err := states.Load(j.Key())
		if err != nil {
			return err
		}
		if !ok {
			st = jobs.State{Created: a.Now().Unix()}
		}
		one := jobOf(j, st, a.Now(), a.Location)
		out = append(out, one)
		next, last := "-", one.LastState
		if one.NextRun != 0 {
			next = time.Unix(one.NextRun, 0).In(a.Location).Format("2006-01-02 15:04:05")
		}
		if one.Problem != "" {
			last = ui.FirstLine(one.Problem)
		}
		t.Add(one.Kind, one.ID, one.Store, one.Schedule, next, last, j.Comment)
	}
	return a.print(out, func() error { return a.table(&t) })
}

func jobOf(j jobs.Job, st jobs.State, now time.Time, loc *time.Location) jobJSON {
	one := jobJSON{Kind: j.Kind.Word(), ID: j.ID, Store: j.Store, Schedule: j.Schedule, Properties: map[string][]string{}}
	for _, p := range j.Section().Props {
		one.Properties[p.Key] = append(one.Properties[p.Key], p.Value)
	}
	if j.Problem != nil {
		one.Problem = j.Problem.Error()
	}
	if next := j.Next(st, now, loc); !next.IsZero() {
		one.NextRun = next.Unix()
	}
	if !st.UPID.IsZero() {
		one.LastUPID, one.LastState = st.UPID.String(), "running"
	}
	if st.End != nil {
		one.LastState, one.LastEnd = st.End.String(), st.End.End
	}
	return one
}

func runServerJobRemove(ctx context.Context, a *app, o *serverOptions, word, id string) error {
	k, err := parseJobKind(word)
	if err != nil {
		return err
	}
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	states, err := o.states(a)
	if err != nil {
		return err
	}
	if err := jobs.Remove(ctx, d, k, id, ""); err != nil {
		return jobError(err)
	}
	if err := states.Forget(string(k) + "-" + id); err != nil && !errors.Is(err, jobs.ErrRunning) {
		return err
	}
	return nil
}

func runServerJobRun(ctx context.Context, a *app, o *serverOptions, word, id string) (err error) {
	k, err := parseJobKind(word)
	if err != nil {
		return err
	}
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	j, err := jobs.Find(d, k, id)
	if err != nil {
		return jobError(err)
	}
	srv, err := o.quiet(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close(context.WithoutCancel(ctx))) }()
	u, err := srv.RunJob(j)
	if errors.Is(err, jobs.ErrRunning) {
		return hint(err, "'holdfast server job list' shows it; wait until it is done")
	}
	if err != nil {
		return err
	}
	end, err := a.followTask(ctx, srv.Tasks(), u)
	if err != nil {
		return err
	}
	if end.Kind == tasks.Failed || end.Kind == tasks.Unknown {
		return fmt.Errorf("%s: %s", j, end)
	}
	if end.Kind == tasks.Warned {
		return mark(errSkipped, "%s finished with %s", j, plural(end.Warnings, "warning"))
	}
	return nil
}

// followTask shows the log of a task of this process until its end. When ctx ends, so
// does the task.
func (a *app) followTask(ctx context.Context, log *tasks.Log, u upid.UPID) (tasks.State, error) {
	ended := make(chan tasks.State, 1)
	go func() { ended <- log.Wait(u) }()
	shown := 0
	show := func() error {
		total, err := log.Lines(u, shown+1, 0, func(_ int, text string) error {
			_, line, _ := strings.Cut(text, ": ")
			a.say("%s", line)
			return nil
		})
		shown = max(shown, total)
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	stop := ctx.Done()
	for {
		select {
		case end := <-ended:
			return end, show()
		case <-stop:
			stop = nil
			log.Abort(u)
		case <-tick.C:
			if err := show(); err != nil {
				return tasks.State{}, err
			}
		}
	}
}
