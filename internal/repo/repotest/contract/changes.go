package contract

import (
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

var changes = []promise{
	{name: "lists tell what is there", test: func(s *suite) {
		s.must(s.CreateNamespace(s.ctx, "a"))
		var want []names.Snapshot
		for _, id := range []string{"100", "20", "100"} {
			n := s.next(id)
			s.backup(n, Random(s.rng, 2))
			want = append(want, n)
		}
		slices.SortFunc(want, names.Snapshot.Compare)
		s.must(s.SetGroupNotes(s.ctx, "", want[0].Group, "the web server\nand more"))
		infos, err := s.Snapshots(s.ctx, "", nil)
		s.must(err)
		if len(infos) != 3 {
			s.Fatalf("%+v", infos)
		}
		for i, info := range infos {
			if info.Snapshot != want[i] || !info.Finished || len(info.Files) != 3 || info.Size == 0 || info.Owner != "root@pam" || info.Problem != nil {
				s.Errorf("%+v", info)
			}
		}
		groups, err := s.Groups(s.ctx, "")
		s.must(err)
		if len(groups) != 2 || groups[0].Group.ID != "20" || groups[1].Count != 2 || groups[1].LastBackup.Unix() != want[2].Time || len(groups[1].Files) != 4 {
			s.Errorf("%+v", groups)
		}
		if groups[0].Comment != "the web server" {
			s.Errorf("comment %q", groups[0].Comment)
		}
		files, err := s.StoredFiles(s.ctx, want[0])
		s.must(err)
		var list []string
		for _, f := range files {
			list = append(list, f.Name.String())
			if f.Size <= 0 {
				s.Errorf("%s has %d bytes", f.Name, f.Size)
			}
		}
		if got := strings.Join(list, " "); got != "disk.img.fidx index.json.blob root.pxar.didx vm.conf.blob" {
			s.Errorf("files %s", got)
		}
		for what, err := range map[string]error{
			"groups":       second(s.Groups(s.ctx, "b")),
			"snapshots":    second(s.Snapshots(s.ctx, "b", nil)),
			"group":        second(s.Snapshots(s.ctx, "a", &want[0].Group)),
			"files":        second(s.StoredFiles(s.ctx, s.next("100"))),
			"owner":        second(s.Owner(s.ctx, "a", want[0].Group)),
			"protected":    second(s.Protected(s.ctx, s.next("100"))),
			"open":         second(s.Open(s.ctx, s.next("100"))),
			"notes":        second(s.GroupNotes(s.ctx, "a", want[0].Group)),
			"set notes":    s.SetNotes(s.ctx, s.next("100"), "x"),
			"protect":      s.SetProtected(s.ctx, s.next("100"), true),
			"set owner":    s.SetOwner(s.ctx, "a", want[0].Group, "ann@pbs"),
			"forget":       s.Forget(s.ctx, s.next("100")),
			"forget group": second(s.ForgetGroup(s.ctx, "a", want[0].Group)),
		} {
			s.is(what+" that is not there", err, repo.ErrNotFound)
		}
	}},
	{name: "notes, owners and protection are kept", test: func(s *suite) {
		n := s.next("100")
		c := Random(s.rng, 2)
		s.backup(n, c)
		s.must(s.SetNotes(s.ctx, n, "before the upgrade <&>"))
		s.must(s.SetGroupNotes(s.ctx, "", n.Group, "long\nnotes"))
		s.must(s.SetOwner(s.ctx, "", n.Group, "ann@pbs"))
		if s.SetOwner(s.ctx, "", n.Group, "nobody") == nil {
			s.Error("an owner that is none")
		}
		s.must(s.SetProtected(s.ctx, n, true))
		s.must(s.SetProtected(s.ctx, n, true))
		r := s.Reopen(s.T)
		infos, err := r.Snapshots(s.ctx, "", &n.Group)
		s.must(err)
		if i := infos[0]; i.Notes != "before the upgrade <&>" || i.Owner != "ann@pbs" || !i.Protected {
			s.Errorf("%+v", i)
		}
		if text, err := r.GroupNotes(s.ctx, "", n.Group); text != "long\nnotes" || err != nil {
			s.Errorf("%q, %v", text, err)
		}
		if is, err := r.Protected(s.ctx, n); !is || err != nil {
			s.Errorf("protected: %v, %v", is, err)
		}
		s.is("forget", s.Forget(s.ctx, n), repo.ErrProtected)
		s.restores(n, c)
		s.must(s.SetProtected(s.ctx, n, false))
		s.must(s.Forget(s.ctx, n))
	}},
	{name: "a snapshot that is removed is gone, and its group with the last one", test: func(s *suite) {
		first, second := s.next("100"), s.next("100")
		c := Random(s.rng, 4)
		s.backup(first, c)
		s.backup(second, c)
		s.must(s.Forget(s.ctx, first))
		_, err := s.Open(s.ctx, first)
		s.is("open", err, repo.ErrNotFound)
		s.restores(second, c)
		s.must(s.Forget(s.ctx, second))
		if groups, err := s.Groups(s.ctx, ""); len(groups) > 0 || err != nil {
			s.Errorf("%+v, %v", groups, err)
		}
		s.backup(s.next("100"), c)
	}},
	{name: "a group is removed but for what is protected", test: func(s *suite) {
		c := Random(s.rng, 2)
		var all []names.Snapshot
		for range 3 {
			n := s.next("100")
			s.backup(n, c)
			all = append(all, n)
		}
		s.must(s.SetProtected(s.ctx, all[1], true))
		res, err := s.ForgetGroup(s.ctx, "", all[0].Group)
		if res != (repo.ForgetGroupResult{Removed: 2, Protected: 1}) || err != nil {
			s.Errorf("%+v, %v", res, err)
		}
		s.restores(all[1], c)
		s.must(s.SetProtected(s.ctx, all[1], false))
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		_, err = s.ForgetGroup(s.ctx, "", all[0].Group)
		s.is("while a backup runs", err, repo.ErrLocked)
		s.must(ses.Abort())
		_, err = s.ForgetGroup(s.ctx, "", all[0].Group)
		s.must(err)
		_, err = s.Snapshots(s.ctx, "", &all[0].Group)
		s.is("the group", err, repo.ErrNotFound)
	}},
	{name: "pruning keeps what it should", test: func(s *suite) {
		c := Random(s.rng, 2)
		var all []names.Snapshot
		for range 5 {
			n := s.next("100")
			s.backup(n, c)
			all = append(all, n)
		}
		other := s.next("101")
		s.backup(other, c)
		s.must(s.SetProtected(s.ctx, all[1], true))
		_, err := s.Prune(s.ctx, repo.PruneOptions{})
		if err == nil {
			s.Error("nothing says what to keep")
		}
		for _, dry := range []bool{true, false} {
			res, err := s.Prune(s.ctx, repo.PruneOptions{Keep: retention.Options{Last: 2}, DryRun: dry})
			s.must(err)
			want := []retention.Mark{retention.Remove, retention.Protected, retention.Remove, retention.Keep, retention.Keep, retention.Keep}
			if len(res) != 6 {
				s.Fatalf("%+v", res)
			}
			for i, r := range res {
				if r.Mark != want[i] || r.Err != nil {
					s.Errorf("dry %v: %+v, want %v", dry, r, want[i])
				}
			}
		}
		infos, err := s.Snapshots(s.ctx, "", nil)
		if len(infos) != 4 || err != nil {
			s.Errorf("%d are left, %v", len(infos), err)
		}
		_, err = s.Prune(s.ctx, repo.PruneOptions{Namespace: "b", Keep: retention.Options{Last: 2}})
		s.is("a namespace that is not there", err, repo.ErrNotFound)
	}},
	{name: "namespaces are made one below the other, and removed with what is in them", test: func(s *suite) {
		s.is("without the one above", s.CreateNamespace(s.ctx, "a/b"), repo.ErrNotFound)
		for _, ns := range []names.Namespace{"a", "a/b", "a-c", "a/b/d"} {
			s.must(s.CreateNamespace(s.ctx, ns))
		}
		s.is("twice", s.CreateNamespace(s.ctx, "a"), repo.ErrExists)
		s.is("the root", s.CreateNamespace(s.ctx, ""), repo.ErrExists)
		all, err := s.Namespaces(s.ctx, "")
		if !slices.Equal(all, []names.Namespace{"a", "a/b", "a/b/d", "a-c"}) || err != nil {
			s.Errorf("%q, %v", all, err)
		}
		below, err := s.Namespaces(s.ctx, "a/b")
		if !slices.Equal(below, []names.Namespace{"a/b/d"}) || err != nil {
			s.Errorf("%q, %v", below, err)
		}
		n := s.next("100")
		n.NS = "a/b"
		c := Random(s.rng, 2)
		s.backup(n, c)
		if err := s.DeleteNamespace(s.ctx, "a", false); err == nil || !strings.Contains(err.Error(), "backup groups") {
			s.Errorf("with a group in it: %v", err)
		}
		s.restores(n, c)
		s.must(s.SetProtected(s.ctx, n, true))
		s.is("protected", s.DeleteNamespace(s.ctx, "a", true), repo.ErrProtected)
		s.restores(n, c)
		s.must(s.SetProtected(s.ctx, n, false))
		s.must(s.DeleteNamespace(s.ctx, "a", true))
		all, err = s.Namespaces(s.ctx, "")
		if !slices.Equal(all, []names.Namespace{"a-c"}) || err != nil {
			s.Errorf("left: %q, %v", all, err)
		}
		s.is("one that is not there", s.DeleteNamespace(s.ctx, "a", true), repo.ErrNotFound)
		if s.DeleteNamespace(s.ctx, "", true) == nil {
			s.Error("the root is removed")
		}
	}},
	{name: "groups move with owner, notes and protection", test: func(s *suite) {
		s.must(s.CreateNamespace(s.ctx, "a"))
		c := Random(s.rng, 2)
		first, second := s.next("100"), s.next("100")
		s.backup(first, c)
		s.backup(second, c)
		s.must(s.SetProtected(s.ctx, first, true))
		s.must(s.SetOwner(s.ctx, "", first.Group, "ann@pbs"))
		s.must(s.SetGroupNotes(s.ctx, "", first.Group, "the web server"))
		s.is("to where nothing is", s.MoveGroup(s.ctx, "", first.Group, "b", false), repo.ErrNotFound)
		s.is("what is not there", s.MoveGroup(s.ctx, "a", first.Group, "", false), repo.ErrNotFound)
		s.must(s.MoveGroup(s.ctx, "", first.Group, "a", false))
		first.NS, second.NS = "a", "a"
		s.restores(first, c)
		s.restores(second, c)
		groups, err := s.Groups(s.ctx, "a")
		if err != nil || len(groups) != 1 || groups[0].Owner != "ann@pbs" || groups[0].Comment != "the web server" || groups[0].Count != 2 {
			s.Errorf("%+v, %v", groups, err)
		}
		s.is("removal", s.Forget(s.ctx, first), repo.ErrProtected)
		again := s.next("100")
		s.backup(again, c)
		s.is("into another one", s.MoveGroup(s.ctx, "", again.Group, "a", false), repo.ErrExists)
		s.is("to another owner", s.MoveGroup(s.ctx, "", again.Group, "a", true), repo.ErrOwner)
		s.must(s.SetOwner(s.ctx, "", again.Group, "ann@pbs"))
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		s.is("while a backup runs", s.MoveGroup(s.ctx, "", again.Group, "a", true), repo.ErrLocked)
		s.must(ses.Abort())
		s.must(s.MoveGroup(s.ctx, "", again.Group, "a", true))
		again.NS = "a"
		s.restores(again, c)
		if groups, err := s.Groups(s.ctx, ""); len(groups) > 0 || err != nil {
			s.Errorf("%+v, %v", groups, err)
		}
	}},
	{name: "namespaces move with what is in them", test: func(s *suite) {
		for _, ns := range []names.Namespace{"a", "a/b", "c"} {
			s.must(s.CreateNamespace(s.ctx, ns))
		}
		c := Random(s.rng, 2)
		n, deep := s.next("100"), s.next("100")
		n.NS, deep.NS = "a", "a/b"
		s.backup(n, c)
		s.backup(deep, c)
		for what, opt := range map[string]repo.MoveNamespaceOptions{
			"itself": {To: "a"}, "below itself": {To: "a/b/d"}, "too deep": {To: "x/y"},
		} {
			opt.Depth = -1
			if s.MoveNamespace(s.ctx, "a", opt) == nil {
				s.Errorf("it moves to %s", what)
			}
		}
		s.must(s.MoveNamespace(s.ctx, "a", repo.MoveNamespaceOptions{To: "c/e", Depth: -1}))
		n.NS, deep.NS = "c/e", "c/e/b"
		s.restores(n, c)
		s.restores(deep, c)
		all, err := s.Namespaces(s.ctx, "")
		if !slices.Equal(all, []names.Namespace{"c", "c/e", "c/e/b"}) || err != nil {
			s.Errorf("%q, %v", all, err)
		}
	}},
	{name: "the client's log is stored once", test: func(s *suite) {
		n := s.next("100")
		c := Random(s.rng, 2)
		raw, err := s.Encode([]byte("done"))
		s.must(err)
		s.is("of nothing", s.PutLog(s.ctx, n, raw), repo.ErrNotFound)
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		s.is("of one that runs", s.PutLog(s.ctx, n, raw), repo.ErrLocked)
		s.must(s.Write(s.ctx, ses, c))
		if s.PutLog(s.ctx, n, []byte("no blob")) == nil {
			s.Error("bytes that are no blob")
		}
		snap, err := s.Open(s.ctx, n)
		s.must(err)
		_, err = snap.Blob(names.ClientLog)
		s.is("before it is there", err, repo.ErrNotFound)
		s.must(snap.Close())
		s.must(s.PutLog(s.ctx, n, raw))
		s.is("twice", s.PutLog(s.ctx, n, raw), repo.ErrExists)
		snap, err = s.Open(s.ctx, n)
		s.must(err)
		if got, err := snap.Blob(names.ClientLog); err != nil || string(got) != string(raw) {
			s.Errorf("%q, %v", got, err)
		}
		s.must(snap.Close())
		s.restores(n, c)
	}},
}

func second[T any](_ T, err error) error {
	if err == nil {
		return errors.New("it is there")
	}
	return err
}
