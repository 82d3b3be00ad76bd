package names

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/unitname"
)

// LockDir holds one directory of lock files for every datastore.
const LockDir = "/run/proxmox-backup/locks"

// ManifestLock is the last part of the relative path of a manifest's lock,
// below the path of its snapshot.
const ManifestLock = ".index.json.lck"

// LockName returns the name of a lock file below the directory of its store.
// rel is the path in its namespace without the ns parts: "vm/100",
// "vm/100/2024-06-05T14:24:36Z", or the latter with [ManifestLock] behind it.
//
// The name is the escaped path, below a directory named for the namespace with
// its levels joined by ':'. A name that no file system would take (255 bytes
// or more) is replaced by its ends and the SHA-256 of the path, in the
// directory "hashed".
func LockName(ns Namespace, rel string) string {
	const tooLong, ends = 255, 80
	name := unitname.EscapePath(rel)
	if len(name) >= tooLong {
		sum := sha256.Sum256([]byte(rel))
		name = "hashed/" + name[:ends] + "..." + name[len(name)-ends:] + "-" + hex.EncodeToString(sum[:])
	}
	if ns == Root {
		return name
	}
	return strings.ReplaceAll(string(ns), "/", ":") + "/" + name
}

// LockPath returns the absolute path of a lock file.
func LockPath(store string, ns Namespace, rel string) string {
	return LockDir + "/" + store + "/" + LockName(ns, rel)
}
