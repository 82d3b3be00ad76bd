package job

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// StoreMap says which datastore takes the backups of which. Its text is a list
// with commas, of target or source=target; a target alone takes those of all
// sources that are not named.
type StoreMap struct {
	named map[string]string
	rest  string // "": they are left out
}

// ParseStoreMap reads the text.
func ParseStoreMap(text string) (StoreMap, error) {
	m := StoreMap{named: map[string]string{}}
	for part := range strings.SplitSeq(text, ",") {
		from, to, both := strings.Cut(part, "=")
		if !both {
			from, to = "", part
		}
		if err := names.CheckStore(to); err != nil {
			return StoreMap{}, fmt.Errorf("store map %.60q: %w", text, err)
		}
		if !both {
			if m.rest != "" {
				return StoreMap{}, fmt.Errorf("store map %.60q: there are two targets for what is not named", text)
			}
			m.rest = to
			continue
		}
		if err := names.CheckStore(from); err != nil {
			return StoreMap{}, fmt.Errorf("store map %.60q: %w", text, err)
		}
		if _, ok := m.named[from]; ok {
			return StoreMap{}, fmt.Errorf("store map %.60q: %s is named twice", text, from)
		}
		m.named[from] = to
	}
	return m, nil
}

// Target is where the backups of a store go; ok is false if nowhere.
func (m StoreMap) Target(store string) (target string, ok bool) {
	if to, ok := m.named[store]; ok {
		return to, true
	}
	return m.rest, m.rest != ""
}

// Targets lists all targets, each once.
func (m StoreMap) Targets() []string {
	var list []string
	seen := map[string]bool{"": true}
	for _, to := range m.named {
		if !seen[to] {
			seen[to] = true
			list = append(list, to)
		}
	}
	if !seen[m.rest] {
		list = append(list, m.rest)
	}
	return list
}

// NamespaceMap brings the snapshots of a namespace of a store into another
// namespace. Its text is store=STORE[,source=NS][,target=NS][,max-depth=N].
type NamespaceMap struct {
	Store          string
	Source, Target names.Namespace
	Depth          int // levels below; negative: all
}

// ParseNamespaceMap reads the text.
func ParseNamespaceMap(text string) (NamespaceMap, error) {
	m := NamespaceMap{Depth: -1}
	fail := func(err error) (NamespaceMap, error) {
		return NamespaceMap{}, fmt.Errorf("namespace map %.80q: %w", text, err)
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok && m.Store == "" {
			key, value = "store", part
		}
		var err error
		switch key {
		case "store":
			m.Store, err = value, names.CheckStore(value)
		case "source":
			m.Source, err = names.ParseNamespace(value)
		case "target":
			m.Target, err = names.ParseNamespace(value)
		case "max-depth":
			_, err = fmt.Sscanf(value, "%d", &m.Depth)
			if err == nil && (m.Depth < 0 || m.Depth > maxDepth) {
				err = fmt.Errorf("max-depth is 0 to %d", maxDepth)
			}
		default:
			err = fmt.Errorf("it has no %q", key)
		}
		if err != nil {
			return fail(err)
		}
	}
	if m.Store == "" {
		return fail(errors.New("it names no store"))
	}
	return m, nil
}

// maxDepth is how many levels of namespaces there can be.
const maxDepth = 7

// Map returns where a namespace goes; ok is false if it is not of this map.
func (m NamespaceMap) Map(store string, ns names.Namespace) (to names.Namespace, ok bool, err error) {
	if store != m.Store || !m.Source.Contains(ns) {
		return "", false, nil
	}
	below := ns.Depth() - m.Source.Depth()
	if m.Depth >= 0 && below > m.Depth {
		return "", false, nil
	}
	if to, err = ns.Moved(m.Source, m.Target); err != nil {
		return "", false, fmt.Errorf("namespace %s of %s: %w", ns, store, err)
	}
	return to, true, nil
}
