// Package param has the parameters that calls of several rooms of a server have.
package param

import (
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// SafeID is the pattern of a name that is safe in paths (package names).
const SafeID = `[A-Za-z0-9_][A-Za-z0-9._\-]*`

// Store is the datastore that a call is about.
func Store() api.Param[string] {
	return api.Parsed("store", "The datastore.", SafeID, 32, func(s string) (string, error) { return s, names.CheckStore(s) })
}

// Namespace is the namespace in it.
func Namespace() api.Param[names.Namespace] {
	return api.Parsed("ns", "The namespace; empty is the root.", `|`+SafeID+`(/`+SafeID+`){0,6}`, 256, names.ParseNamespace).Default(names.Root)
}

// Depth is how far down from there.
func Depth() api.Param[int64] {
	return api.Int("max-depth", "How many levels of namespaces below.", 0, 7)
}

// Digest is that of a configuration file which a call changes.
func Digest() api.Param[string] {
	return api.Match("digest", "Of the configuration that the change is for, as it was shown; it prevents changes by others from being lost.", `[0-9a-f]{64}`, 64).Optional()
}
