package replicate_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func TestWhatIsCopiedIsTheSameAndOnlyWhatIsMissingIsCopied(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	backup(t, a, day(1), content(6, 1), nil)
	putLog(t, a, day(1), "it went well")
	backup(t, a, day(2), content(6, 1, 1, 2, 2, 1, 1), nil)
	k := key(t)
	backup(t, a, snapshot("ct/7/2026-06-01T00:00:00Z"), content(5, 3), k)

	rep := run(t, a, b, replicate.Options{Workers: 3, Groups: 2})
	equal(t, a, b)
	if rep.Snapshots != 3 || rep.Groups != 2 || rep.Known == 0 {
		t.Errorf("%+v", rep.Stats)
	}
	again := run(t, a, b, replicate.Options{})
	if again.Snapshots != 0 || again.Chunks != 0 || again.Bytes != 0 {
		t.Errorf("nothing is new: %+v", again.Stats)
	}
	// One chunk of the image is new, and those two of the tree that it lies in.
	backup(t, a, day(3), content(6, 1, 1, 2, 2, 1, 9), nil)
	more := run(t, a, b, replicate.Options{})
	equal(t, a, b)
	if more.Snapshots != 1 || more.Chunks > 3 || more.Chunks == 0 {
		t.Errorf("%+v", more.Stats)
	}
	// What the target has in another group is not copied either.
	backup(t, a, snapshot("host/copy/2026-06-02T00:00:00Z"), content(6, 1), nil)
	other := run(t, a, b, replicate.Options{})
	equal(t, a, b)
	if other.Snapshots != 1 || other.Chunks != 0 {
		t.Errorf("%+v", other.Stats)
	}
}

func TestALogThatComesLaterFollows(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	backup(t, a, day(1), content(2, 1), nil)
	run(t, a, b, replicate.Options{})
	putLog(t, a, day(1), "late")
	run(t, a, b, replicate.Options{})
	equal(t, a, b)
}

func TestNamespacesAreMadeDownToADepth(t *testing.T) {
	a := newPlace(t)
	for _, ns := range []names.Namespace{"x", "x/y", "x/y/z", "other"} {
		if err := a.CreateNamespace(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
		n := day(1)
		n.NS = ns
		backup(t, a, n, content(2, uint64(len(ns))), nil)
	}
	for _, tc := range []struct {
		depth int
		want  []names.Namespace
	}{
		{0, []names.Namespace{"in", "in/here"}},
		{1, []names.Namespace{"in", "in/here", "in/here/y"}},
		{replicate.AllDepths, []names.Namespace{"in", "in/here", "in/here/y", "in/here/y/z"}},
	} {
		b := newPlace(t)
		rep := run(t, a, b, replicate.Options{From: "x", To: "in/here", Depth: tc.depth})
		got, err := b.Namespaces(t.Context(), names.Root)
		if err != nil || !slices.Equal(got, tc.want) || int(rep.Snapshots) != len(tc.want)-1 {
			t.Errorf("depth %d: %v, %v, %+v", tc.depth, got, err, rep.Stats)
		}
		if tc.depth == replicate.AllDepths {
			same(t, listing(t, a, "x"), listing(t, b, "in/here"))
		}
		verified(t, b)
	}
	// A namespace that would lie too deep is told, and the others come.
	b := newPlace(t)
	rep, err := replicate.Run(t.Context(), a, b, replicate.Options{From: "x", To: "1/2/3/4/5/6", Depth: -1})
	if err != nil || len(rep.Failures) != 1 || rep.Snapshots != 2 {
		t.Errorf("%v, %+v", err, rep)
	}
}

func TestTheSamePlaceIsNotCopiedIntoItself(t *testing.T) {
	a := newPlace(t)
	backup(t, a, day(1), content(2, 1), nil)
	for _, o := range []replicate.Options{{}, {To: "x", Depth: -1}, {From: "x", Depth: -1}} {
		if _, err := replicate.Run(t.Context(), a, a, o); err == nil {
			t.Errorf("%+v is done", o)
		}
	}
	run(t, a, a, replicate.Options{To: "copy"})
	if got := listing(t, a, "copy"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestFiltersChooseGroups(t *testing.T) {
	a := newPlace(t)
	for _, g := range []string{"vm/100", "vm/101", "ct/100", "host/web"} {
		backup(t, a, snapshot(g+"/2026-06-01T00:00:00Z"), content(1, 1), nil)
	}
	for _, tc := range []struct {
		filters []string
		want    []string
	}{
		{nil, []string{"ct/100", "host/web", "vm/100", "vm/101"}},
		{[]string{"type:vm"}, []string{"vm/100", "vm/101"}},
		{[]string{"include:group:ct/100", "regex:^host/"}, []string{"ct/100", "host/web"}},
		{[]string{"exclude:type:vm"}, []string{"ct/100", "host/web"}},
		{[]string{"type:vm", "exclude:group:vm/101"}, []string{"vm/100"}},
		{[]string{"regex:100$", "exclude:regex:^c"}, []string{"vm/100"}},
	} {
		f, err := replicate.ParseFilters(tc.filters)
		if err != nil {
			t.Fatal(err)
		}
		b := newPlace(t)
		run(t, a, b, replicate.Options{Filters: f})
		groups, err := b.Groups(t.Context(), names.Root)
		var got []string
		for _, g := range groups {
			got = append(got, g.Group.String())
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.filters, got, tc.want)
		}
	}
	for _, bad := range []string{"", "vm", "type:", "type:disk", "group:100", "regex:(", "exclude:exclude:type:vm", "other:x"} {
		if _, err := replicate.ParseFilter(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzFilterComesBackAsItWas(f *testing.F) {
	for _, s := range []string{"type:vm", "exclude:group:ct/100", "include:regex:^a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := replicate.ParseFilter(s)
		if err != nil {
			return
		}
		again, err := replicate.ParseFilter(one.String())
		if err != nil || again.String() != one.String() || again.Exclude != one.Exclude {
			t.Errorf("%q becomes %q, %v", s, one, err)
		}
	})
}

func TestOnlyTheNewestAreCopiedIfThatIsAskedFor(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	for n := range 5 {
		backup(t, a, day(n), content(2, uint64(n)), nil)
	}
	run(t, a, b, replicate.Options{TransferLast: 2})
	same(t, listing(t, a, "")[3:], listing(t, b, ""))
	// Those left out do not come later: they are older than what is there.
	run(t, a, b, replicate.Options{})
	same(t, listing(t, a, "")[3:], listing(t, b, ""))
	// What was removed at the target does not come back.
	if err := b.Forget(t.Context(), day(3)); err != nil {
		t.Fatal(err)
	}
	run(t, a, b, replicate.Options{})
	same(t, listing(t, a, "")[4:], listing(t, b, ""))
}

func TestOnlyEncryptedOrVerifiedSnapshotsAreCopiedIfThatIsAskedFor(t *testing.T) {
	a := newPlace(t)
	k := key(t)
	backup(t, a, day(1), content(2, 1), nil)
	backup(t, a, day(2), content(2, 2), k)
	if _, err := a.Verify(t.Context(), repo.VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	backup(t, a, day(3), content(2, 3), k)
	all := listing(t, a, "")
	for _, tc := range []struct {
		o    replicate.Options
		want []string
	}{
		{replicate.Options{EncryptedOnly: true}, all[1:]},
		{replicate.Options{VerifiedOnly: true}, all[:2]},
		{replicate.Options{VerifiedOnly: true, EncryptedOnly: true}, all[1:2]},
	} {
		b := newPlace(t)
		run(t, a, b, tc.o)
		same(t, tc.want, listing(t, b, ""))
		infos, err := b.Snapshots(t.Context(), "", nil)
		if err != nil || infos[0].Verify != nil {
			t.Errorf("the verdict on the source's chunks came along: %+v, %v", infos, err)
		}
	}
}

func TestVanishedThingsAreRemovedAndProtectedOnesStay(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	if err := a.CreateNamespace(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		backup(t, a, day(n), content(2, uint64(n)), nil)
	}
	for _, s := range []string{"ct/1/2026-06-01T00:00:00Z", "ct/2/2026-06-01T00:00:00Z", "ns/old/vm/1/2026-06-01T00:00:00Z"} {
		backup(t, a, snapshot(s), content(2, 1), nil)
	}
	o := replicate.Options{Depth: -1}
	run(t, a, b, o)
	equal(t, a, b)
	if err := b.SetProtected(t.Context(), day(1), true); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		a.Forget(t.Context(), day(0)), a.Forget(t.Context(), day(1)),
		a.Forget(t.Context(), snapshot("ct/1/2026-06-01T00:00:00Z")), a.Forget(t.Context(), snapshot("ct/2/2026-06-01T00:00:00Z")),
		a.DeleteNamespace(t.Context(), "old", true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, a, b, o)
	if n := len(listing(t, b, "")); n != 7 {
		t.Errorf("something was removed unasked: %d are left", n)
	}
	var err error
	o.RemoveVanished = true
	if o.Filters, err = replicate.ParseFilters([]string{"exclude:group:ct/2"}); err != nil {
		t.Fatal(err)
	}
	rep := run(t, a, b, o)
	if rep.RemovedSnapshots != 3 || rep.RemovedGroups != 2 || rep.RemovedNamespaces != 1 {
		t.Errorf("%+v", rep.Stats)
	}
	infos, err := b.Snapshots(t.Context(), "", nil)
	var got []string
	for _, i := range infos {
		got = append(got, i.Snapshot.String())
	}
	want := []string{"ct/2/2026-06-01T00:00:00Z", day(1).String(), day(2).String(), day(3).String()}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	verified(t, b)
}

func TestGroupsOfOthersAreLeftAlone(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	backup(t, a, day(1), content(2, 1), nil)
	backup(t, a, snapshot("ct/1/2026-06-01T00:00:00Z"), content(2, 1), nil)
	backup(t, b, snapshot("ct/1/2026-05-01T00:00:00Z"), content(2, 1), nil)
	backup(t, b, snapshot("ct/9/2026-05-01T00:00:00Z"), content(2, 1), nil)
	rep, err := replicate.Run(t.Context(), a, b, replicate.Options{Owner: "sync@pbs!one", RemoveVanished: true})
	if err != nil || len(rep.Failures) != 1 || !errors.Is(rep.Err(), repo.ErrOwner) || rep.Snapshots != 1 || rep.RemovedSnapshots+rep.RemovedGroups != 0 {
		t.Errorf("%v, %+v", err, rep)
	}
	groups, err := b.Groups(t.Context(), "")
	var got []string
	for _, g := range groups {
		got = append(got, fmt.Sprintf("%s %s %d", g.Group, g.Owner, g.Count))
	}
	if want := []string{"ct/1 guest@pbs 1", "ct/9 guest@pbs 1", "vm/100 sync@pbs!one 1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// Groups keep the owner that they have if that is asked for.
	c := newPlace(t)
	run(t, a, c, replicate.Options{KeepOwner: true})
	groups, err = c.Groups(t.Context(), "")
	if err != nil || len(groups) != 2 || groups[0].Owner != "guest@pbs" {
		t.Errorf("%+v, %v", groups, err)
	}
}

func TestDamagedSnapshotsOfTheTargetAreMended(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	for n := range 3 {
		backup(t, a, day(n), content(4, 1, 1, 1, uint64(n)), nil)
	}
	run(t, a, b, replicate.Options{})
	spoil(t, b, names.ChunkPath(digest.Of(content(1, 1))))
	spoil(t, b, day(1).Path()+"/"+image.String())
	if _, err := b.Verify(t.Context(), repo.VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if rep := run(t, a, b, replicate.Options{}); rep.Mended != 0 {
		t.Errorf("mended unasked: %+v", rep)
	}
	rep := run(t, a, b, replicate.Options{ResyncCorrupt: true, TransferLast: 1})
	if rep.Mended != 3 || rep.Chunks != 1 {
		t.Errorf("%+v", rep.Stats)
	}
	equal(t, a, b)
	if _, err := replicate.Run(t.Context(), a, struct{ repo.Repository }{b}, replicate.Options{ResyncCorrupt: true}); err == nil {
		t.Error("a target that cannot be mended was taken")
	}
}

// A copy of the same name that holds something else does not take the place of what
// is there.
func TestAnotherBackupOfTheSameTimeDoesNotMend(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	backup(t, a, day(1), content(4, 1), nil)
	backup(t, b, day(1), content(4, 2), nil)
	err := b.SetProtected(t.Context(), day(1), false)
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, b, day(1).Path()+"/"+conf.String())
	if _, err := b.Verify(t.Context(), repo.VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	before := listing(t, b, "")
	rep, err := replicate.Run(t.Context(), a, b, replicate.Options{ResyncCorrupt: true})
	if err != nil || len(rep.Failures) != 1 {
		t.Errorf("%v, %+v", err, rep)
	}
	same(t, before, listing(t, b, ""))
	infos, err := b.Snapshots(t.Context(), "", nil)
	if err != nil || infos[0].Verify == nil || infos[0].Verify.State != manifest.VerifyFailed {
		t.Errorf("%+v, %v", infos, err)
	}
}
