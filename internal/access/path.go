package access

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/aclcfg"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Path is a place that privileges are had at: "/", or as in "/datastore/tank".
type Path string

// Everything is the path above all others.
const Everything Path = "/"

// maxPath is the longest path that an entry may be made for, in bytes; PBS has
// the same.
const maxPath = 128

// StorePath returns the path of a namespace of a datastore.
func StorePath(store string, ns names.Namespace) Path {
	if ns.IsRoot() {
		return Path("/datastore/" + store)
	}
	return Path("/datastore/" + store + "/" + ns.String())
}

// RemotePath returns the path of a store on another server, or with an empty
// store that of the server.
func RemotePath(remote, store string, ns names.Namespace) Path {
	p := Path("/remote/" + remote)
	if store != "" {
		p += Path("/" + store)
		if !ns.IsRoot() {
			p += Path("/" + ns.String())
		}
	}
	return p
}

// ParsePath reads a path that an entry is to be made for. Empty names in it do
// not count.
func ParsePath(s string) (Path, error) {
	p := Path(aclcfg.CleanPath(s))
	refuse := func(why string) (Path, error) {
		return "", fmt.Errorf("path %q: %w: %s", s, ErrInvalid, why)
	}
	if p == Everything {
		return p, nil
	}
	if len(p) > maxPath {
		return refuse("it is longer than 128 bytes")
	}
	parts := strings.Split(string(p[1:]), "/")
	for _, name := range parts {
		if !names.IsSafeID(name) {
			return refuse("names are of A-Z a-z 0-9 _ . - and start with none of the last two")
		}
	}
	for _, form := range forms {
		if fits(parts, form) {
			return p, nil
		}
	}
	return refuse("there is nothing there; paths start with /datastore/, /remote/, /system/, /access/ or /tape/")
}

// forms are the paths there are: "*" is one name, and what is in [] may be
// missing from there on.
var forms = []string{
	"access [ acl", "access users", "access domains", "access openid [ *",
	"datastore [ * [ * [ * [ * [ * [ * [ * [ *",
	"remote [ * [ * [ * [ * [ * [ * [ * [ * [ *",
	"system [ certificates", "system disks", "system log", "system notifications", "system status", "system tasks", "system time",
	"system services [ *", "system s3-endpoint [ *", "system network [ dns", "system network interfaces [ *",
	"tape [ device [ *", "tape pool [ *", "tape job [ *",
}

// fits reports whether names are a path of a form.
func fits(parts []string, form string) bool {
	for want := range strings.FieldsSeq(form) {
		switch {
		case want == "[":
			if len(parts) == 0 {
				return true
			}
		case len(parts) == 0 || want != "*" && want != parts[0]:
			return false
		default:
			parts = parts[1:]
		}
	}
	return len(parts) == 0
}

// down yields the path and those above it, from the top. leaf is true for the
// path itself.
func (p Path) down() iter.Seq2[Path, bool] {
	return func(yield func(Path, bool) bool) {
		if !yield(Everything, p == Everything) || p == Everything {
			return
		}
		for i := 1; i < len(p); i++ {
			if p[i] == '/' && !yield(p[:i], false) {
				return
			}
		}
		yield(p, true)
	}
}

// below reports whether p is beneath q and not q itself.
func (p Path) below(q Path) bool {
	if q == Everything {
		return p != Everything
	}
	return strings.HasPrefix(string(p), string(q)+"/")
}

// compare sorts paths as PBS does: name by name.
func (p Path) compare(q Path) int {
	return slices.Compare(strings.Split(string(p), "/"), strings.Split(string(q), "/"))
}
