package names_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func TestParsersRefuse(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, tc := range []struct {
		name  string
		parse func(string) error
		texts []string
	}{
		{"group", func(s string) error { _, err := names.ParseGroup(s); return err }, []string{
			"", "vm", "vm/", "/100", "qemu/100", "vm/100/x", "vm/..", "vm/" + long, "vm/a\x00",
		}},
		{"namespace", func(s string) error { _, err := names.ParseNamespace(s); return err }, []string{
			"..", "a/../b", "ns/", long, strings.Repeat("x", 200) + "/" + strings.Repeat("y", 56), "a\nb",
		}},
		{"snapshot", func(s string) error { _, err := names.ParseSnapshot(s); return err }, []string{
			"", "vm/100", "ns/a/vm/100", "a/vm/100/2024-06-05T14:24:36Z", "ns/../vm/100/2024-06-05T14:24:36Z",
			"ns/a/ns/b/ns/c/ns/d/ns/e/ns/f/ns/g/ns/h/vm/1/2024-06-05T14:24:36Z", "/vm/100/2024-06-05T14:24:36Z",
			"vm/100/2024-06-05T14:24:36Z/", "vm/100/2024-02-30T14:24:36Z", "vm/100/2016-12-31T23:59:60Z",
			strings.Repeat("ns/a/", 1000) + "vm/100/2024-06-05T14:24:36Z",
		}},
		{"time", func(s string) error { _, err := names.ParseRFC3339(s); return err }, []string{
			"", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-01-00T00:00:00Z", "2023-02-29T00:00:00Z",
			"2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:61Z", "2024-01-01T00:00:00z",
			"2024-01-01T00:00:00+0200", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+00:60", "0000-01-01T00:00:00+00:01",
			"9999-12-31T23:59:59-00:01", "+024-01-01T00:00:00Z", "2024-01-01T00:00:0 Z",
		}},
		{"archive", func(s string) error { _, err := names.ParseArchive(s); return err }, []string{
			"", ".fidx", ".blob", "x", "x.img", "a/b.blob", "../x.blob", "-x.blob", "x.FIDX", "x.blob ", long + ".blob",
		}},
		{"client name", func(s string) error { _, err := names.ServerName(s); return err }, []string{
			"", "x", "img", ".img", "x.iso", "../x.img", "a/b.conf", "x.img.", "x.Img",
		}},
		{"store", names.CheckStore, []string{"", "ab", strings.Repeat("x", 33), "-abc", "a/bc", ".abc"}},
		{"auth id", func(s string) error { _, err := names.ParseAuthID(s); return err }, []string{
			"", "root", "@pam", "root@", "root@pam!", "a b@pam", "a:b@pam", "a/b@pam", "a\x01@pam", "a\u00a0b@pam", "root@p!a!m",
			"\xff@pam", long + long + long + long + long + "@pam",
		}},
	} {
		for _, s := range tc.texts {
			if err := tc.parse(s); !errors.Is(err, names.ErrName) {
				t.Errorf("%s %.60q: err = %v, want ErrName", tc.name, s, err)
			}
		}
	}
}

func TestRefusalsDoNotEchoHostileText(t *testing.T) {
	_, err := names.ParseGroup("vm/\x1b[2J" + strings.Repeat("x", 1<<20))
	if err == nil || len(err.Error()) > 1000 || strings.Contains(err.Error(), "\x1b") {
		t.Fatalf("error of %d bytes", len(err.Error()))
	}
}

func TestSnapshotInNamespaceRoundTrips(t *testing.T) {
	const path = "ns/vm/ns/ns/host/ns/2024-06-05T14:24:36Z" // names that look like structure
	s, err := names.ParseSnapshot(path)
	want := names.Snapshot{NS: "vm/ns", Group: names.Group{Type: names.Host, ID: "ns"}, Time: 1717597476}
	if err != nil || s != want {
		t.Fatalf("got %+v, %v, want %+v", s, err, want)
	}
	if s.Path() != path || s.String() != "host/ns/2024-06-05T14:24:36Z" || s.GroupPath() != "ns/vm/ns/ns/host/ns" {
		t.Fatalf("Path %q, String %q, GroupPath %q", s.Path(), s.String(), s.GroupPath())
	}
}

func TestSnapshotCheckWantsATimeTheAPIAccepts(t *testing.T) {
	g := names.Group{Type: names.VM, ID: "100"}
	for _, at := range []int64{0, -1, 253402300800} {
		if err := (names.Snapshot{Group: g, Time: at}).Check(); !errors.Is(err, names.ErrName) {
			t.Errorf("time %d: %v", at, err)
		}
	}
	if err := (names.Snapshot{NS: "a", Group: g, Time: 1}).Check(); err != nil {
		t.Error(err)
	}
	if err := (names.Snapshot{NS: "../a", Group: g, Time: 1}).Check(); err == nil {
		t.Error("a namespace that leaves the store is accepted")
	}
}

func TestNamespaceTree(t *testing.T) {
	ab, err := names.Root.Child("a")
	if err == nil {
		ab, err = ab.Child("b")
	}
	if err != nil || ab != "a/b" {
		t.Fatalf("got %q, %v", ab, err)
	}
	if ab.Parent() != "a" || ab.Parent().Parent() != names.Root || names.Root.Parent() != names.Root {
		t.Errorf("parents of %q are wrong", ab)
	}
	if ab.Depth() != 2 || ab.Name() != "b" || names.Root.Depth() != 0 || names.Root.Name() != "" {
		t.Errorf("depth %d, name %q", ab.Depth(), ab.Name())
	}
	for _, bad := range []string{"", "a/b", "..", "-x"} {
		if c, err := ab.Child(bad); err == nil {
			t.Errorf("child %q is accepted as %q", bad, c)
		}
	}
	if !names.Root.Contains("a") || !ab.Contains(ab) || !names.Namespace("a").Contains(ab) || names.Namespace("a").Contains("ab") {
		t.Error("Contains is wrong")
	}
}

func TestServerNamesFollowTheExtension(t *testing.T) {
	for in, want := range map[string]string{
		"drive-scsi0.img": "drive-scsi0.img.fidx", "root.pxar": "root.pxar.didx", "root.mpxar": "root.mpxar.didx",
		"root.ppxar": "root.ppxar.didx", "catalog.pcat1": "catalog.pcat1.didx", "qemu-server.conf": "qemu-server.conf.blob",
		"index.json": "index.json.blob", "rsa-encrypted.key": "rsa-encrypted.key.blob", "client.log": "client.log.blob",
		"x.img.fidx": "x.img.fidx", "x.anything.didx": "x.anything.didx", "x.blob": "x.blob",
	} {
		got, err := names.ServerName(in)
		if err != nil || got.String() != want {
			t.Errorf("ServerName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	a := names.Archive("drive-scsi0.img.fidx")
	if a.Kind() != names.Fidx || a.Kind().String() != "fidx" || a.ClientName() != "drive-scsi0.img" {
		t.Errorf("kind %v, client name %q", a.Kind(), a.ClientName())
	}
}

// What is shown can be typed: some programs give images no ".img".
func TestClientNamesAreFoundAgain(t *testing.T) {
	for in, want := range map[string]string{
		"root.pxar.didx": "root.pxar", "qemu-server.conf.blob": "qemu-server.conf", "disk.fidx": "disk.fidx", "drive.raw.fidx": "drive.raw.fidx",
		"x.conf.fidx": "x.conf.fidx", "x.fidx.fidx": "x.fidx.fidx", "x.blob": "x.blob",
	} {
		got := names.Archive(in).ClientName()
		if again, err := names.ServerName(got); got != want || again.String() != in || err != nil {
			t.Errorf("%s is called %s, not %s, and that is %s, %v", in, got, want, again, err)
		}
	}
	if got := names.Archive("drive.raw.fidx").Base(); got != "drive.raw" {
		t.Errorf("Base is %q", got)
	}
}

func TestChunkFileNames(t *testing.T) {
	d := digest.Of([]byte("x"))
	if f, ok := names.ParseChunkFile(d.String()); !ok || f.Digest != d || f.Bad != -1 {
		t.Errorf("chunk: %+v, %v", f, ok)
	}
	if f, ok := names.ParseChunkFile(strings.ToUpper(d.String())); !ok || f.Digest != d {
		t.Errorf("upper case: %+v, %v", f, ok)
	}
	if f, ok := names.ParseChunkFile(d.String() + ".7.bad"); !ok || f.Digest != d || f.Bad != 7 {
		t.Errorf("bad copy: %+v, %v", f, ok)
	}
	for _, s := range []string{"", d.String()[1:], d.String() + ".x.bad", d.String() + ".0.BAD", d.String() + ".10.bad", d.String() + ".tmp_AAAAAA", "g" + d.String()[1:]} {
		if f, ok := names.ParseChunkFile(s); ok {
			t.Errorf("%q is taken for chunk %+v", s, f)
		}
	}
}

func TestOwnersTokensBelongToTheirUser(t *testing.T) {
	user, token, other := mustAuth(t, "a!b@c@pam"), mustAuth(t, "a!b@c@pam!tok"), mustAuth(t, "a!b@c@pbs")
	for _, tc := range []struct {
		who, owner names.AuthID
		want       bool
	}{{user, user, true}, {user, token, true}, {token, token, true}, {token, user, false}, {other, token, false}} {
		if got := tc.who.MayUse(tc.owner); got != tc.want {
			t.Errorf("%s on %s: %v, want %v", tc.who, tc.owner, got, tc.want)
		}
	}
}

func TestObjectKeyHasALimit(t *testing.T) {
	if k, err := names.S3Key("store1", strings.Repeat("x", 1018)); err == nil {
		t.Errorf("key of %d bytes is accepted", len(k))
	}
	if _, err := names.S3Key("store1", strings.Repeat("x", 1017)); err != nil {
		t.Error(err)
	}
}

func mustAuth(t *testing.T, s string) names.AuthID {
	t.Helper()
	a, err := names.ParseAuthID(s)
	if err != nil || a.String() != s {
		t.Fatalf("ParseAuthID(%q) = %+v, %v", s, a, err)
	}
	return a
}

func TestNamespacesMoveWithWhatTheyLieIn(t *testing.T) {
	for _, tc := range []struct{ ns, from, to, want names.Namespace }{
		{"a/b/c", "a", "x/y", "x/y/b/c"},
		{"a/b", "a/b", "x", "x"},
		{"a/b", "a", names.Root, "b"},
		{"a", "a", names.Root, names.Root},
		{"a", names.Root, "x", "x/a"},
		{names.Root, names.Root, "x", "x"},
	} {
		if got, err := tc.ns.Moved(tc.from, tc.to); got != tc.want || err != nil {
			t.Errorf("%q from %q to %q: %q, %v; want %q", tc.ns, tc.from, tc.to, got, err, tc.want)
		}
	}
	for name, tc := range map[string]struct{ ns, from, to names.Namespace }{
		"of another":    {"ab/c", "a", "x"},
		"above":         {names.Root, "a", "x"},
		"then too deep": {"a/b/c/d/e", "a", "1/2/3/4"},
	} {
		if got, err := tc.ns.Moved(tc.from, tc.to); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
