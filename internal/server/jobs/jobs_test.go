package jobs_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

func config(t testing.TB, files map[confdir.File]string) confdir.Dir {
	t.Helper()
	d := confdir.New(filepath.Join(t.TempDir(), "etc"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	for f, text := range files {
		if err := d.Change(t.Context(), f, func([]byte) ([]byte, error) { return []byte(text), nil }); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func text(t testing.TB, d confdir.Dir, f confdir.File) string {
	t.Helper()
	b, err := d.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// written is what the tools of PBS write.
var written = map[confdir.File]string{
	confdir.Datastores: `datastore: tank
	gc-schedule daily
	path /mnt/tank

datastore: old
	keep-last 3
	path /mnt/old
	prune-schedule 03:00
`,
	confdir.PruneJobs: `prune: nightly
	keep-daily 7
	keep-last 2
	max-depth 1
	ns prod
	schedule 02:30
	store tank

prune: paused
	disable true
	keep-last 1
	schedule hourly
	store tank
`,
	confdir.VerifyJobs: `verification: weekly-check
	ignore-verified true
	outdated-after 30
	schedule sat 18:15
	store tank
`,
	confdir.SyncJobs: `sync: offsite
	group-filter type:vm
	group-filter exclude:group:vm/100
	max-depth 2
	ns copies
	owner sync@pbs!one
	rate-in 10 MiB
	remote far
	remote-ns prod
	remote-store tank
	remove-vanished true
	schedule *:0/15
	store tank
	transfer-last 5

sync: away
	rate-out 1.5MB
	remote far
	remote-store tank
	store old
	sync-direction push
`,
	confdir.Remotes: `remote: far
	auth-id sync@pbs!one
	fingerprint 00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f
	host backup.example.org
	password c2VjcmV0
`,
}

func TestJobsOfAServerAreRead(t *testing.T) {
	d := config(t, written)
	all, err := jobs.Load(d)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range all {
		got = append(got, strings.Join([]string{j.Key(), j.Store, j.Schedule, j.Worker()}, " | "))
		if j.Problem != nil {
			t.Errorf("%s: %v", j, j.Problem)
		}
		if want := j.ID != "paused" && j.ID != "away"; j.Scheduled() != want {
			t.Errorf("%s: scheduled is %v", j, j.Scheduled())
		}
	}
	want := []string{
		"garbage_collection-tank | tank | daily | tank",
		"prune-old | old | 03:00 | old",
		"prunejob-nightly | tank | 02:30 | tank:prod",
		"prunejob-paused | tank | hourly | tank",
		"verificationjob-weekly-check | tank | sat 18:15 | tank:weekly-check",
		"syncjob-offsite | tank | *:0/15 | far:tank:tank:copies:offsite",
		"syncjob-away | old |  | far:tank:old::away",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if k := all[2].Keep(); k != (retention.Options{Last: 2, Daily: 7}) || all[2].Depth() != 1 {
		t.Errorf("%+v, depth %d", k, all[2].Depth())
	}
	if ignore, outdated := all[4].IgnoreVerified(); !ignore || outdated != 30*24*time.Hour {
		t.Errorf("%v %v", ignore, outdated)
	}
	s, err := all[5].Sync()
	if err != nil || !s.Pull || s.Options.From != "prod" || s.Options.To != "copies" || s.Options.Depth != 2 || s.Options.Owner != "sync@pbs!one" ||
		!s.Options.RemoveVanished || s.Options.TransferLast != 5 || s.Options.Rate == nil ||
		s.Options.Filters.Match(names.Group{Type: names.VM, ID: "100"}) || !s.Options.Filters.Match(names.Group{Type: names.VM, ID: "101"}) {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = all[6].Sync()
	if err != nil || s.Pull || s.Options.Rate == nil || s.Owner.String() != "root@pam" || s.Options.Depth != -1 {
		t.Errorf("%+v, %v", s, err)
	}
	r, err := jobs.FindRemote(d, "far")
	if err != nil || r.Host != "backup.example.org" || r.Port != 8007 || r.Auth.String() != "sync@pbs!one" || string(r.Password.Reveal()) != "secret" {
		t.Errorf("%+v, %v", r, err)
	}
}

// One job that is wrong does not keep the others from being run.
func TestAJobThatCannotBeReadSaysWhy(t *testing.T) {
	for _, tc := range []struct{ name, props, says string }{
		{"no store", "	schedule daily\n", "store is missing"},
		{"a schedule that is none", "	store tank\n	schedule dayly\n", "schedule"},
		{"a number that is none", "	store tank\n	keep-last many\n", "keep-last"},
		{"a namespace that is none", "	store tank\n	ns ../x\n", "ns"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := config(t, map[confdir.File]string{confdir.PruneJobs: "prune: bad\n" + tc.props + "\nprune: good\n	keep-last 1\n	schedule daily\n	store tank\n"})
			all, err := jobs.Load(d)
			if err != nil || len(all) != 2 || all[0].Problem == nil || all[0].Scheduled() || !all[1].Scheduled() {
				t.Fatalf("%+v, %v", all, err)
			}
			if !strings.Contains(all[0].Problem.Error(), tc.says) {
				t.Errorf("%v", all[0].Problem)
			}
		})
	}
}

func TestChangesAreWrittenAsPBSWritesThem(t *testing.T) {
	d := config(t, written)
	ctx := t.Context()
	for _, err := range []error{
		jobs.Add(ctx, d, jobs.Sync, "second", jobs.Values{
			"store": {"old"}, "remote-store": {"tank"}, "group-filter": {"type:ct", "type:vm"}, "schedule": {"daily"},
		}),
		jobs.Change(ctx, d, jobs.Sync, "offsite", "", jobs.Values{"schedule": nil, "comment": {"by hand"}}),
		jobs.Remove(ctx, d, jobs.Sync, "away", ""),
		jobs.Change(ctx, d, jobs.GC, "old", "", jobs.Values{"gc-schedule": {"sun 04:00"}}),
		jobs.Remove(ctx, d, jobs.GC, "tank", ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := `sync: offsite
	comment by hand
	group-filter type:vm
	group-filter exclude:group:vm/100
	max-depth 2
	ns copies
	owner sync@pbs!one
	rate-in 10 MiB
	remote far
	remote-ns prod
	remote-store tank
	remove-vanished true
	store tank
	transfer-last 5

sync: second
	group-filter type:ct
	group-filter type:vm
	remote-store tank
	schedule daily
	store old
`
	if got := text(t, d, confdir.SyncJobs); got != want {
		t.Errorf("%s", got)
	}
	if got := text(t, d, confdir.Datastores); !strings.Contains(got, "datastore: tank\n\tpath /mnt/tank\n") || !strings.Contains(got, "\tgc-schedule sun 04:00\n\tkeep-last 3\n") {
		t.Errorf("%s", got)
	}
}

func TestChangesThatCannotBeAreRefusedAndChangeNothing(t *testing.T) {
	d := config(t, written)
	ctx := t.Context()
	before := text(t, d, confdir.SyncJobs) + text(t, d, confdir.Remotes)
	old := confdir.DigestOf([]byte("old")).String()
	for name, err := range map[string]error{
		"an id that is taken":    jobs.Add(ctx, d, jobs.Sync, "away", jobs.Values{"store": {"old"}, "remote-store": {"tank"}}),
		"a short id":             jobs.Add(ctx, d, jobs.Sync, "x", jobs.Values{"store": {"old"}, "remote-store": {"tank"}}),
		"what is needed":         jobs.Add(ctx, d, jobs.Sync, "third", jobs.Values{"store": {"old"}}),
		"an unknown property":    jobs.Change(ctx, d, jobs.Sync, "away", "", jobs.Values{"colour": {"red"}}),
		"two values":             jobs.Change(ctx, d, jobs.Sync, "away", "", jobs.Values{"store": {"old", "tank"}}),
		"a bad filter":           jobs.Change(ctx, d, jobs.Sync, "away", "", jobs.Values{"group-filter": {"disks"}}),
		"a bad speed":            jobs.Change(ctx, d, jobs.Sync, "away", "", jobs.Values{"rate-in": {"fast"}}),
		"no store left":          jobs.Change(ctx, d, jobs.Sync, "away", "", jobs.Values{"store": nil}),
		"an old digest":          jobs.Change(ctx, d, jobs.Sync, "away", old, jobs.Values{"comment": {"x"}}),
		"a job that is not":      jobs.Remove(ctx, d, jobs.Sync, "never", ""),
		"a remote in use":        jobs.RemoveRemote(ctx, d, "far", ""),
		"a remote that is there": jobs.SetRemote(ctx, d, "far", "", true, jobs.Values{"host": {"x"}, "auth-id": {"a@pbs"}}, nil),
		"a remote that is not":   jobs.SetRemote(ctx, d, "near", "", false, nil, nil),
		"a remote without host":  jobs.SetRemote(ctx, d, "near", "", true, jobs.Values{"auth-id": {"a@pbs"}}, nil),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if after := text(t, d, confdir.SyncJobs) + text(t, d, confdir.Remotes); after != before {
		t.Errorf("something was changed:\n%s", after)
	}
}

func TestPasswordsOfRemotesAreKeptAsPBSKeepsThem(t *testing.T) {
	d := config(t, nil)
	p := secret.New([]byte("pass word"))
	if err := jobs.SetRemote(t.Context(), d, "far", "", true, jobs.Values{"host": {"::1"}, "auth-id": {"a@pbs"}, "port": {"8008"}}, &p); err != nil {
		t.Fatal(err)
	}
	if err := jobs.SetRemote(t.Context(), d, "far", "", false, jobs.Values{"port": nil}, nil); err != nil {
		t.Fatal(err)
	}
	if got := text(t, d, confdir.Remotes); got != "remote: far\n\tauth-id a@pbs\n\thost ::1\n\tpassword cGFzcyB3b3Jk\n" {
		t.Errorf("%q", got)
	}
	if err := jobs.RemoveRemote(t.Context(), d, "far", ""); err != nil {
		t.Error(err)
	}
}

const id = "UPID:pbs1:00000A2B:0003F1C2:00000007:66F00000:prune:tank:root@pam:"

func mustUPID(t testing.TB, s string) upid.UPID {
	t.Helper()
	u, err := upid.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The texts are those that PBS writes.
func TestStatesAreThoseOfPBS(t *testing.T) {
	u := mustUPID(t, id)
	for _, tc := range []struct {
		text string
		want jobs.State
		last int64
	}{
		{`{"created":{"time":1717600000}}`, jobs.State{Created: 1717600000}, 1717600000},
		{`{"started":{"upid":"` + id + `"}}`, jobs.State{UPID: u}, 0x66F00000},
		{`{"finished":{"upid":"` + id + `","state":{"OK":{"endtime":1727004700}},"updated":null}}`, jobs.State{UPID: u, End: &tasks.State{Kind: tasks.OK, End: 1727004700}}, 0x66F00000},
		{`{"finished":{"upid":"` + id + `","state":{"Warning":{"endtime":1727004700,"count":2}},"updated":1727100000}}`, jobs.State{UPID: u, End: &tasks.State{Kind: tasks.Warned, End: 1727004700, Warnings: 2}, Updated: 1727100000}, 1727100000},
		{`{"finished":{"upid":"` + id + `","state":{"Error":{"endtime":1727004700,"message":"disk full"}},"updated":null}}`, jobs.State{UPID: u, End: &tasks.State{Kind: tasks.Failed, End: 1727004700, Text: "disk full"}}, 0x66F00000},
		{`{"finished":{"upid":"` + id + `","state":{"Unknown":{"endtime":1727004700}},"updated":null}}`, jobs.State{UPID: u, End: &tasks.State{Kind: tasks.Unknown, End: 1727004700}}, 0x66F00000},
	} {
		s, err := jobs.ParseState([]byte(tc.text))
		if err != nil || s.Created != tc.want.Created || s.UPID != tc.want.UPID || s.Updated != tc.want.Updated || (s.End == nil) != (tc.want.End == nil) || s.End != nil && *s.End != *tc.want.End {
			t.Errorf("%s: %+v, %v", tc.text, s, err)
			continue
		}
		if got := s.Last().Unix(); got != tc.last {
			t.Errorf("%s: last %d, want %d", tc.text, got, tc.last)
		}
		b, err := s.Marshal()
		if err != nil || string(b) != tc.text {
			t.Errorf("%s becomes %s, %v", tc.text, b, err)
		}
	}
	for _, bad := range []string{"", "{}", "null", `{"created":{"time":1},"started":{"upid":"x"}}`, `{"started":{"upid":"x"}}`, `{"finished":{"upid":"` + id + `","state":{}}}`} {
		if _, err := jobs.ParseState([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzStatesComeBackAsTheyWere(f *testing.F) {
	f.Add([]byte(`{"created":{"time":1717600000}}`))
	f.Add([]byte(`{"finished":{"upid":"` + id + `","state":{"Error":{"endtime":1,"message":"x"}},"updated":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := jobs.ParseState(b)
		if err != nil {
			return
		}
		text, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := jobs.ParseState(text)
		if err != nil || again.Last() != s.Last() || again.Running() != s.Running() {
			t.Errorf("%s: %+v, %v", text, again, err)
		}
	})
}

func TestAJobIsLockedWhileItRuns(t *testing.T) {
	d, err := jobs.OpenStates(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := d.Lock("prunejob-x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock("prunejob-x"); !errors.Is(err, jobs.ErrRunning) {
		t.Errorf("%v", err)
	}
	if err := d.Forget("prunejob-x"); !errors.Is(err, jobs.ErrRunning) {
		t.Errorf("%v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := d.Forget("prunejob-x"); err != nil {
		t.Errorf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(t.TempDir(), "*")); err != nil || len(left) > 0 {
		t.Errorf("%q, %v", left, err)
	}
}
