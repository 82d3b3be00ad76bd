package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

func open(t *testing.T, dir string) *tasks.Log {
	t.Helper()
	l, err := tasks.Open(tasks.Options{Dir: dir, Node: "pbs1.example.com", Location: time.FixedZone("", 2*3600)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run runs one task to its end.
func run(t *testing.T, l *tasks.Log, j tasks.Job, f func(context.Context, *tasks.Task) error) upid.UPID {
	t.Helper()
	task, err := l.Start(t.Context(), j, f)
	if err != nil {
		t.Fatal(err)
	}
	<-task.Done()
	return task.ID()
}

func gc(store string) tasks.Job {
	return tasks.Job{Type: "garbage_collection", Worker: store, Auth: "root@pam"}
}

func fine(context.Context, *tasks.Task) error { return nil }

func lines(t *testing.T, l *tasks.Log, id upid.UPID, first, limit int) (list []string, total int) {
	t.Helper()
	total, err := l.Lines(id, first, limit, func(n int, text string) error {
		list = append(list, fmt.Sprintf("%d %s", n, text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, total
}

func TestATaskLeavesALogAndALineInTheArchive(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	id := run(t, l, tasks.Job{Type: "prune", Worker: "tank:vm/100", Auth: "ann@pbs!nas"}, func(_ context.Context, task *tasks.Task) error {
		task.Logf("keep %s", "all")
		return nil
	})
	form := `^UPID:pbs1:[0-9A-F]{8}:[0-9A-F]{8,9}:00000000:[0-9A-F]{8}:prune:tank\\x3avm-100:ann@pbs!nas:$`
	if !regexp.MustCompile(form).MatchString(id.String()) {
		t.Errorf("the UPID is %s", id)
	}
	log, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%02X", id.PStart&0xff), id.String()))
	if err != nil {
		t.Fatal(err)
	}
	want := `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+02:00: keep all\n.{25}: TASK OK\n$`
	if !regexp.MustCompile(want).Match(log) {
		t.Errorf("the log is %q", log)
	}
	archive, err := os.ReadFile(filepath.Join(dir, "archive"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^` + regexp.QuoteMeta(id.String()) + ` [0-9A-F]{8} OK\n$`).Match(archive) {
		t.Errorf("the archive is %q", archive)
	}
	if active, err := os.ReadFile(filepath.Join(dir, "active")); err != nil || len(active) != 0 {
		t.Errorf("active is %q, %v", active, err)
	}
}

func TestTheStateSaysHowATaskEnded(t *testing.T) {
	l := open(t, t.TempDir())
	for _, tc := range []struct {
		name string
		do   func(context.Context, *tasks.Task) error
		want string
		kind tasks.Kind
	}{
		{"well", fine, "OK", tasks.OK},
		{"with warnings", func(_ context.Context, task *tasks.Task) error {
			task.Warnf("one")
			task.Warnf("two")
			return nil
		}, "WARNINGS: 2", tasks.Warned},
		{"with an error of two lines", func(context.Context, *tasks.Task) error { return errors.New("disk\ngone") }, "disk; gone", tasks.Failed},
		{"with a text that looks like a line of a log", func(_ context.Context, task *tasks.Task) error {
			task.Logf("TASK ERROR: no\nTASK OK")
			return errors.New("yes")
		}, "yes", tasks.Failed},
		{"with a panic", func(context.Context, *tasks.Task) error { panic("no") }, "worker panicked: no", tasks.Failed},
		{"with an error longer than the tail that is read", func(context.Context, *tasks.Task) error {
			return errors.New(strings.Repeat("long ", 10000))
		}, strings.Repeat("long ", 806) + "lo...", tasks.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := run(t, l, gc("tank"), tc.do)
			s, err := l.State(id)
			if err != nil {
				t.Fatal(err)
			}
			if s.Kind != tc.kind || s.String() != tc.want {
				t.Errorf("state from the log: %s %q, want %s %q", s.Kind, s, tc.kind, tc.want)
			}
			list, _, err := l.List(tasks.Filter{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			if list[0].ID != id || list[0].State.String() != tc.want {
				t.Errorf("state from the archive: %+v, want %q", list[0].State, tc.want)
			}
		})
	}
}

func TestAnAbortedTaskEndsWithTheReason(t *testing.T) {
	l := open(t, t.TempDir())
	task, err := l.Start(t.Context(), gc("tank"), func(ctx context.Context, _ *tasks.Task) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := l.State(task.ID()); s != nil || err != nil {
		t.Fatalf("state of a running task: %v, %v", s, err)
	}
	l.Abort(task.ID())
	l.Abort(task.ID())
	<-task.Done()
	l.Abort(task.ID())
	got, _ := lines(t, l, task.ID(), 0, 0)
	if len(got) != 2 || !strings.HasSuffix(got[0], "received abort request ...") || !strings.HasSuffix(got[1], "TASK ERROR: "+tasks.ErrAborted.Error()) {
		t.Errorf("the log is %q", got)
	}
}

// TestATaskWhoseProcessDiedEndsAsUnknown writes what a dead server leaves behind.
func TestATaskWhoseProcessDiedEndsAsUnknown(t *testing.T) {
	const nobody = 0x7fffffff // larger than any process number
	dead := func(n uint64) upid.UPID {
		return upid.UPID{Node: "pbs1", PID: nobody, PStart: 0x12, TaskID: n, Time: 0x66f00000, Type: "verify", Worker: "tank", Auth: "root@pam"}
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "12"), 0o755); err != nil {
		t.Fatal(err)
	}
	logs := []string{
		"2024-09-22T13:31:12+02:00: halfway\n",
		"2024-09-22T13:31:12+02:00: halfway\n2024-09-22T13:31:13+02:00: TASK WARNINGS: 3\n", // it died before the archive was written
		"",
		"\x00\xff garbage",
	}
	var active string
	for i, text := range logs {
		active += dead(uint64(i)).String() + "\n"
		if err := os.WriteFile(filepath.Join(dir, "12", dead(uint64(i)).String()), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	active += dead(9).String() + "\n" + "no UPID\n" // one whose log was never made, and damage
	if err := os.WriteFile(filepath.Join(dir, "active"), []byte(active), 0o644); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	list, total, err := l.List(tasks.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint64]string{}
	for _, i := range list {
		got[i.ID.TaskID] = fmt.Sprintf("%s %d", i.State, i.State.End-0x66f00000)
	}
	want := map[uint64]string{0: "unknown 0", 1: "WARNINGS: 3 1", 2: "unknown 0", 3: "unknown 0", 9: "unknown 0"}
	if d := cmp.Diff(want, got); d != "" || total != len(want) {
		t.Errorf("want -, got +, total %d:\n%s", total, d)
	}
	if again, _, err := open(t, dir).List(tasks.Filter{}); err != nil || len(again) != len(list) {
		t.Errorf("after another start there are %d, %v", len(again), err)
	}
}

func TestATaskOfAnotherLivingProcessRunsOn(t *testing.T) {
	dir := t.TempDir()
	parent := os.Getppid()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", parent))
	if err != nil {
		t.Skip("there is no /proc: ", err)
	}
	var start uint64
	rest := string(stat[strings.LastIndex(string(stat), ")")+1:])
	if _, err := fmt.Sscan(strings.Fields(rest)[19], &start); err != nil {
		t.Fatal(err)
	}
	theirs := upid.UPID{Node: "pbs1", PID: uint32(parent), PStart: start, Time: 1, Type: "verify", Auth: "root@pam"}
	if err := os.WriteFile(filepath.Join(dir, "active"), []byte(theirs.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, _, err := open(t, dir).List(tasks.Filter{Running: true})
	if err != nil || len(list) != 1 || list[0].ID != theirs {
		t.Errorf("running are %v, %v", list, err)
	}
	theirs.PStart++ // another process with the same number
	if err := os.WriteFile(filepath.Join(dir, "active"), []byte(theirs.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, _, err = open(t, dir).List(tasks.Filter{})
	if err != nil || len(list) != 1 || list[0].State == nil || list[0].State.Kind != tasks.Unknown {
		t.Errorf("tasks are %v, %v", list, err)
	}
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	l := open(t, t.TempDir())
	fail := func(context.Context, *tasks.Task) error { return errors.New("broken") }
	run(t, l, tasks.Job{Type: "backup", Worker: "tank:vm/100", Auth: "ann@pbs"}, fine)
	run(t, l, tasks.Job{Type: "backup", Worker: "tank2:vm/100", Auth: "bob@pbs"}, fail)
	run(t, l, tasks.Job{Type: "syncjob", Worker: "-:far:tank::job1", Auth: "root@pam"}, fine)
	stop := make(chan struct{})
	task, err := l.Start(t.Context(), gc("tank"), func(context.Context, *tasks.Task) error { <-stop; return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { close(stop); <-task.Done() }()

	for _, tc := range []struct {
		name   string
		filter tasks.Filter
		want   string // task ids
		total  int
	}{
		{"all", tasks.Filter{}, "3 2 1 0", 4},
		{"running", tasks.Filter{Running: true}, "3", 1},
		{"errors, with those that run", tasks.Filter{Errors: true}, "3 1", 2},
		{"user", tasks.Filter{User: "ann"}, "0", 1},
		{"type", tasks.Filter{Type: "back"}, "1 0", 2},
		{"store", tasks.Filter{Store: "tank"}, "3 2 0", 3},
		{"kinds", tasks.Filter{Kinds: []tasks.Kind{tasks.OK}}, "2 0", 2},
		{"since later", tasks.Filter{Since: time.Now().Unix() + 1000}, "", 0},
		{"until earlier", tasks.Filter{Until: 1000}, "", 0},
		{"seen", tasks.Filter{See: func(u upid.UPID) bool { return u.Auth == "bob@pbs" }}, "1", 1},
		{"first page", tasks.Filter{Limit: 2}, "3 2", 3}, // one more: there may be another
		{"second page", tasks.Filter{Start: 2, Limit: 3}, "1 0", 4},
		{"behind the end", tasks.Filter{Start: 4, Limit: 3}, "", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, total, err := l.List(tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, i := range list {
				ids = append(ids, fmt.Sprint(i.ID.TaskID))
			}
			if got := strings.Join(ids, " "); got != tc.want || total != tc.total {
				t.Errorf("got %q of %d, want %q of %d", got, total, tc.want, tc.total)
			}
		})
	}
}

func TestPagesOfALogHaveWholeLines(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	id := run(t, l, gc("tank"), func(_ context.Context, task *tasks.Task) error {
		task.Logf("a\nb\r\n\x1bc\xff")
		return nil
	})
	all, total := lines(t, l, id, 0, 0)
	if len(all) != 4 || total != 4 || !strings.HasSuffix(all[2], ": ?c?") {
		t.Fatalf("lines are %q of %d", all, total)
	}
	for first := range 6 {
		for limit := range 6 {
			want := all[min(max(first-1, 0), len(all)):]
			if limit > 0 && limit < len(want) {
				want = want[:limit]
			}
			got, total := lines(t, l, id, first, limit)
			if len(got) != len(want) || total != 4 || len(got) > 0 && got[0] != want[0] {
				t.Errorf("from %d, at most %d: %q of %d, want %q of 4", first, limit, got, total, want)
			}
		}
	}
	path := filepath.Join(dir, fmt.Sprintf("%02X", id.PStart&0xff), id.String())
	if err := os.WriteFile(path, []byte("whole\n"+strings.Repeat("x", 200<<10)+"\nhal"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, total := lines(t, l, id, 0, 0)
	if total != 2 || len(got) != 2 || len(got[1]) != 2+64<<10+3 {
		t.Errorf("%d lines of %d; a line that is being written counts, or a long one is not cut", len(got), total)
	}
}

func TestLogsOfStrangersAreMissing(t *testing.T) {
	l := open(t, t.TempDir())
	id := upid.UPID{Node: "a", PID: 1, Type: "x", Auth: "y"}
	if _, err := l.Lines(id, 0, 0, nil); !errors.Is(err, tasks.ErrUnknown) {
		t.Errorf("log: %v", err)
	}
	if _, err := l.State(id); !errors.Is(err, tasks.ErrUnknown) {
		t.Errorf("state: %v", err)
	}
}

func TestLongWorkersStillMakeFileNames(t *testing.T) {
	l := open(t, t.TempDir())
	id := run(t, l, tasks.Job{Type: "backup", Worker: "tank:vm/" + strings.Repeat("ä-", 120), Auth: "root@pam"}, fine)
	if n := len(id.String()); n > 255 || n < 120 {
		t.Errorf("the UPID has %d bytes", n)
	}
	if _, err := l.State(id); err != nil {
		t.Error(err)
	}
}

func TestALargeArchiveIsPutAside(t *testing.T) {
	dir := t.TempDir()
	old := upid.UPID{Node: "pbs1", PID: 1, PStart: 1, Time: 1, Type: "verify", Worker: "tank", Auth: "root@pam"}
	line := old.String() + " 00000002 OK\n"
	if err := os.WriteFile(filepath.Join(dir, "archive"), []byte(strings.Repeat(line, 512<<10/len(line)+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	run(t, l, gc("tank"), fine)
	if _, err := os.Stat(filepath.Join(dir, "archive.1")); err != nil {
		t.Fatal(err)
	}
	run(t, l, gc("tank"), fine)
	list, _, err := l.List(tasks.Filter{Limit: 3})
	if err != nil || len(list) != 3 || list[0].ID.TaskID != 1 || list[2].ID != old {
		t.Errorf("the list is %v, %v", list, err)
	}
}

func TestCloseWaitsAndThenAborts(t *testing.T) {
	l := open(t, t.TempDir())
	task, err := l.Start(t.Context(), gc("tank"), func(ctx context.Context, _ *tasks.Task) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Close(ctx)
	select {
	case <-task.Done():
	default:
		t.Fatal("Close returned before the task ended")
	}
	if _, err := l.Start(t.Context(), gc("tank"), fine); err == nil {
		t.Error("a task began after Close")
	}
}

func TestManyTasksAtATimeAreAllThereInTheEnd(t *testing.T) {
	l := open(t, t.TempDir())
	const n = 40
	for range n {
		go func() {
			_, _ = l.Start(context.Background(), gc("tank"), func(_ context.Context, task *tasks.Task) error {
				task.Logf("x")
				return nil
			})
		}()
	}
	for { // those that have not begun yet are not waited for by Close
		list, _, err := l.List(tasks.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == n {
			break
		}
	}
	l.Close(t.Context())
	list, _, err := l.List(tasks.Filter{Kinds: []tasks.Kind{tasks.OK}})
	if err != nil || len(list) != n {
		t.Errorf("%d ended well, want %d; %v", len(list), n, err)
	}
}
