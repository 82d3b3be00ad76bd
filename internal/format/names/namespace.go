package names

import "strings"

// Namespace is the text form "a/b" of a namespace. Only ParseNamespace and
// Child make new ones from outside text.
type Namespace string

// Root is the namespace at the top of a store.
const Root Namespace = ""

const (
	maxDepth     = 7
	maxNamespace = 256 // bytes
)

// ParseNamespace reads "", "a" or "a/b".
func ParseNamespace(s string) (Namespace, error) {
	n := Namespace(s)
	if err := n.Check(); err != nil {
		return "", err
	}
	return n, nil
}

// Check reports whether n is what ParseNamespace would accept.
func (n Namespace) Check() error {
	s := string(n)
	switch {
	case s == "":
		return nil
	case len(s) > maxNamespace:
		return refuse("namespace", s, "at most 256 bytes")
	case n.Depth() > maxDepth:
		return refuse("namespace", s, "at most 7 levels")
	}
	for part := range strings.SplitSeq(s, "/") {
		if !IsSafeID(part) || len(part) > maxComponent {
			return refuse("namespace", s, "want names of 1 to 255 of A-Z a-z 0-9 _ . - joined by '/', none starting with '.' or '-'")
		}
	}
	return nil
}

// String returns the text form, "" for the root.
func (n Namespace) String() string { return string(n) }

// IsRoot reports whether n is the top of the store.
func (n Namespace) IsRoot() bool { return n == Root }

// Depth returns the number of levels, 0 for the root.
func (n Namespace) Depth() int {
	if n == Root {
		return 0
	}
	return strings.Count(string(n), "/") + 1
}

// Path returns the directory of n relative to the store: "ns/a/ns/b", "" for
// the root.
func (n Namespace) Path() string {
	if n == Root {
		return ""
	}
	return "ns/" + strings.ReplaceAll(string(n), "/", "/ns/")
}

// Parent returns the namespace one level up; the root is its own parent.
func (n Namespace) Parent() Namespace {
	i := strings.LastIndexByte(string(n), '/')
	if i < 0 {
		return Root
	}
	return n[:i]
}

// Name returns the last component, "" for the root.
func (n Namespace) Name() string {
	return string(n[strings.LastIndexByte(string(n), '/')+1:])
}

// Child returns the namespace called name directly below n.
func (n Namespace) Child(name string) (Namespace, error) {
	if !IsSafeID(name) {
		return "", refuse("namespace", name, "want one name of A-Z a-z 0-9 _ . - that does not start with '.' or '-'")
	}
	if n == Root {
		return ParseNamespace(name)
	}
	return ParseNamespace(string(n) + "/" + name)
}

// Contains reports whether o is n or lies below n.
func (n Namespace) Contains(o Namespace) bool {
	return n == Root || n == o || strings.HasPrefix(string(o), string(n)+"/")
}

// Moved is where n, which lies in from, lies once from has become to.
func (n Namespace) Moved(from, to Namespace) (Namespace, error) {
	if !from.Contains(n) {
		return "", refuse("namespace", string(n), "it does not lie in "+string(from))
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(string(n), string(from)), "/")
	switch {
	case rest == "":
		return to, nil
	case to == Root:
		return ParseNamespace(rest)
	}
	return ParseNamespace(string(to) + "/" + rest)
}

// join puts the directory of n before rel.
func (n Namespace) join(rel string) string {
	if n == Root {
		return rel
	}
	return n.Path() + "/" + rel
}
