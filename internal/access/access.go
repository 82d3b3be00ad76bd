// Package access decides who may do what on a server. It is a pure function of
// the users, the access control list and the time: it opens nothing and asks
// nobody. All of it is as PBS has it, so that its files keep their meaning.
//
// # Who
//
// A [names.AuthID] is a user, "ann@pbs", or an API token of one, "ann@pbs!nas".
// It is active if it is in user.cfg, enabled and not expired; a token needs that
// of its user as well. "root@pam" is always in user.cfg, whether it is written
// there or not. See [Users].
//
// # What
//
// A privilege such as Datastore.Backup is the right to do something, a role is a
// set of privileges under a name, and an entry of the list gives a role at a path
// to somebody, there alone or for all below too. See [Privs], [Role] and [ACL].
//
// Paths are those of the objects of a server:
//
//	/                                 everything
//	/datastore/<store>[/<namespace>]  a datastore, or a namespace and all in it
//	/remote/<remote>[/<store>]        another server
//	/system/..., /access/..., /tape/...
//
// # The rules
//
//  1. root@pam has every privilege everywhere. Its tokens have not.
//  2. For everybody else the path is walked from "/" down. At each place the roles
//     given to exactly this user or token are collected: at the place asked for all
//     of them, above it those that hold below. Where there is one, the collection
//     takes the place of that from above.
//  3. With NoAccess in a collection, the collection is empty of privileges.
//  4. A token has what it was given and its user has too, at the same path.
//  5. Groups may stand in the list, and nobody is a member of one.
//
// # Owners
//
// A group of backups has an owner: the user or token that made its first backup.
// Some privileges count only for groups of one's own, where a group of a user's
// token is the user's too, and a group of the user is not the token's. What each
// call needs is the table of [Call].
//
// # Write-only
//
// Who has DatastoreBackup may add backups to groups of its own and read those
// back, and remove nothing. DatastoreWriteOnly, which PBS does not have, takes the
// reading away too: a token with it can add backups, sees that they are there, and
// neither gets at their content nor changes or removes anything. PBS would refuse
// an acl.cfg with a role it does not know, so entries with such roles are in a file
// of their own.
//
// # Errors
//
// Parsers wrap the errors of the formats they stand on. Changes of users and list
// wrap [ErrUnknown], [ErrExists] and [ErrInvalid]. A refusal is a [*DeniedError]
// or an [*InactiveError].
//
// # Source
//
// proxmox-rs: pbs-api-types/src/{acl,user}.rs, proxmox-access-control/src/acl.rs;
// proxmox-backup: pbs-config/src/{acl,cached_user_info}.rs, src/api2/admin/
// datastore.rs, src/api2/backup, src/api2/reader.
package access

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

var (
	// ErrUnknown is wrapped when a user, a token or an entry is not there.
	ErrUnknown = errors.New("not there")
	// ErrExists is wrapped when a user or token is there already.
	ErrExists = errors.New("there already")
	// ErrInvalid is wrapped when a value cannot be what is asked for.
	ErrInvalid = errors.New("not allowed")
)

// Root returns the id of the user that may do everything.
func Root() names.AuthID { return names.AuthID{User: "root", Realm: "pam"} }

// userOf returns the user that a token belongs to.
func userOf(id names.AuthID) names.AuthID {
	id.Token = ""
	return id
}
