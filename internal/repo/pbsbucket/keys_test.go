package pbsbucket

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func TestKeysSayWhatTheyBelongTo(t *testing.T) {
	web := names.Group{Type: names.Host, ID: "web1"}
	for key, want := range map[string]entry{
		".cnt/host/web1/owner":                                {group: web, file: "owner"},
		".cnt/host/web1/2026-11-30T01:20:57Z/index.json.blob": {group: web, dated: true, time: 1796001657, file: "index.json.blob"},
		".cnt/ns/a/.namespace":                                {ns: "a", file: ".namespace"},
		".cnt/ns/ns/ns/vm/vm/ns/notes":                        {ns: "ns/vm", group: names.Group{Type: names.VM, ID: "ns"}, file: "notes"},
		".cnt/ns/a/ns/b/host/web1/2026-11-30T01:20:57Z/.protected": {
			ns: "a/b", group: web, dated: true, time: 1796001657, file: ".protected",
		},
	} {
		if got, ok := parseKey(key); !ok || got != want {
			t.Errorf("%s: %+v, %v, want %+v", key, got, ok, want)
		}
	}
	for _, key := range []string{
		"", ".cnt/", ".chunks/0000/x", ".cnt/host/web1", ".cnt/disk/web1/owner", ".cnt/host/../owner", ".cnt/host/web1/yesterday/owner",
		".cnt/host/web1/2026-11-30T01:20:57Z/a/b", ".cnt/ns/.x/.namespace", ".cnt/ns/a/ns/b/ns/c/ns/d/ns/e/ns/f/ns/g/ns/h/.namespace",
	} {
		if got, ok := parseKey(key); ok && got.file != "" {
			t.Errorf("%q is taken for %+v", key, got)
		}
	}
}

// FuzzParseKey holds the parser to the keys that are asked for.
func FuzzParseKey(f *testing.F) {
	for _, key := range []string{
		".cnt/host/web1/owner", ".cnt/ns/a/.namespace", ".cnt/ns/ns/ns/vm/vm/ns/notes", ".cnt/ns/a/ns/b/host/web1/2026-11-30T01:20:57Z/.protected",
		".cnt/ns/a", ".cnt//", ".cnt/vm/1/2026-11-30T01:20:57Z/",
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		e, ok := parseKey(key)
		if !ok {
			return
		}
		again := below(e.ns) + e.file
		switch {
		case e.dated:
			again = fileKey(names.Snapshot{NS: e.ns, Group: e.group, Time: e.time}, e.file)
		case e.group != names.Group{}:
			again = groupKey(e.ns, e.group, e.file)
		}
		if again != key {
			t.Fatalf("%q is taken for %+v, whose key is %q", key, e, again)
		}
	})
}
