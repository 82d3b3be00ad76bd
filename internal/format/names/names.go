// Package names holds every name that a datastore of Proxmox Backup Server
// gives to things: groups, namespaces, snapshots, archives, chunk files, lock
// files, owners and object keys. All of them become parts of paths, so text
// from outside is parsed here before anything else sees it.
//
// # Rules
//
//	safe-id    [A-Za-z0-9_][A-Za-z0-9._-]*                 no leading '.' or '-'
//	type       ct | host | vm                              listed in this order
//	id         safe-id, at most 255 bytes
//	group      <type>/<id>
//	namespace  up to 7 safe-ids joined by '/', at most 256 bytes, each at most 255;
//	           the empty text is the root
//	time       YYYY-MM-DDTHH:MM:SSZ, UTC, years 0000 to 9999
//	snapshot   <type>/<id>/<time>
//	archive    safe-id that ends in .fidx, .didx or .blob, at most 255 bytes
//	store      safe-id of 3 to 32 bytes
//	auth id    <user>@<realm> or <user>@<realm>!<token>
//
// Numeric ids (those that fit 64 unsigned bits) sort by value and before all
// others.
//
// # Paths, relative to the store
//
//	ns/a/ns/b/vm/100/2024-06-05T14:24:36Z    a snapshot in namespace a/b
//	.chunks/bb9f/bb9f8d...                   a chunk, first 4 hex digits as fan-out
//	.chunks/bb9f/bb9f8d....0.bad             a chunk that verify found corrupt
//
// # Errors
//
// Every parser returns an error wrapping [ErrName] that shows the refused text
// and the rule.
//
// # Source
//
// proxmox-rs: pbs-api-types/src/ (datastore.rs, user.rs, lib.rs),
// proxmox-time/src/posix.rs; proxmox-backup: pbs-datastore/src/backup_info.rs,
// chunk_store.rs.
package names

import (
	"errors"
	"fmt"
)

// ErrName is wrapped by the errors of all parsers of this package.
var ErrName = errors.New("invalid name")

// File names inside a group or snapshot directory that are not archives of
// their own.
const (
	Owner     = "owner"      // of a group: one line, an auth id
	Notes     = "notes"      // of a group: free text
	Protected = ".protected" // of a snapshot: marker against removal
)

// maxComponent is the longest file name of the usual file systems, in bytes.
const maxComponent = 255

// IsSafeID reports whether s is a safe-id. It sets no upper length.
func IsSafeID(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// CheckStore reports whether s may name a datastore.
func CheckStore(s string) error {
	if !IsSafeID(s) || len(s) < 3 || len(s) > 32 {
		return refuse("datastore name", s, "want 3 to 32 of A-Z a-z 0-9 _ . - that do not start with '.' or '-'")
	}
	return nil
}

// refuse builds the error of all parsers. Long input is cut: it may be hostile
// and ends up on a terminal.
func refuse(what, s, rule string) error {
	const most = 300
	if len(s) > most {
		return fmt.Errorf("%w: %s %q... (%d bytes): %s", ErrName, what, s[:most], len(s), rule)
	}
	return fmt.Errorf("%w: %s %q: %s", ErrName, what, s, rule)
}
