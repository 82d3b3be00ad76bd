package pbsbucket

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// contents is the prefix of everything but chunks.
const contents = ".cnt/"

// entry is what the key of a file says.
type entry struct {
	ns    names.Namespace
	group names.Group // zero: the file belongs to the namespace
	dated bool        // it belongs to a snapshot
	time  int64
	file  string
}

// parseKey reads a key below contents. What is none of a datastore's is not ok.
func parseKey(key string) (e entry, ok bool) {
	rest, ok := strings.CutPrefix(key, contents)
	if !ok {
		return entry{}, false
	}
	parts := strings.Split(rest, "/")
	for len(parts) > 2 && parts[0] == "ns" {
		var err error
		if e.ns, err = e.ns.Child(parts[1]); err != nil {
			return entry{}, false
		}
		parts = parts[2:]
	}
	e.file = parts[len(parts)-1]
	if len(parts) == 1 {
		return e, true
	}
	var err error
	if e.group, err = names.ParseGroup(parts[0] + "/" + parts[1]); err != nil {
		return entry{}, false
	}
	switch len(parts) {
	case 3:
		return e, true
	case 4:
		if e.time, err = names.ParseTime(parts[2]); err != nil {
			return entry{}, false
		}
		e.dated = true
		return e, true
	}
	return entry{}, false
}

// shelf is the prefix of all groups of a type in a namespace.
func shelf(ns names.Namespace, t names.BackupType) string {
	return names.S3Content(names.GroupPath(ns, names.Group{Type: t})) // ends with a slash, as the id is empty
}

// fileKey is the key of a file of a snapshot.
func fileKey(s names.Snapshot, file string) string { return names.S3Content(s.Path() + "/" + file) }

// groupKey is the key of a file of a group.
func groupKey(ns names.Namespace, g names.Group, file string) string {
	return names.S3Content(names.GroupPath(ns, g) + "/" + file)
}

// below is the prefix of what lies in a namespace.
func below(ns names.Namespace) string {
	if ns.IsRoot() {
		return contents
	}
	return names.S3Content(ns.Path() + "/")
}

// behind is what List takes to go on after everything below a prefix, which ends
// with a slash: the character after it.
func behind(prefix string) string { return strings.TrimSuffix(prefix, "/") + "0" }
