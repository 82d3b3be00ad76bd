package server

import (
	"fmt"
	"math"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
)

const (
	safeID   = param.SafeID
	maxNotes = 16 << 10 // bytes
)

// params are the parameters that several calls have.
var params = struct {
	store   api.Param[string]
	ns      api.Param[names.Namespace]
	typ     api.Param[names.BackupType]
	id      api.Param[string]
	time    api.Param[int64]
	file    api.Param[names.Archive]
	node    api.Param[string]
	upid    api.Param[upid.UPID]
	user    api.Param[names.AuthID]
	auth    api.Param[names.AuthID]
	comment api.Param[string]
	digest  api.Param[string]
	depth   api.Param[int64]
	path    api.Param[access.Path]
	dryRun  api.Param[bool]
	onProt  api.Param[bool]
}{
	store: param.Store(),
	ns:    param.Namespace(),
	typ:   api.Choice("backup-type", "The type of the backup group.", names.CT, names.Host, names.VM),
	id: api.Parsed("backup-id", "The id of the backup group.", safeID, 255, func(s string) (string, error) {
		return s, names.Group{Type: names.VM, ID: s}.Check()
	}),
	time:    api.Int("backup-time", "The time of the snapshot, seconds since 1970-01-01 UTC.", names.MinTime, math.MaxInt64),
	file:    api.Parsed("file-name", "The name of a file of the snapshot.", safeID+`\.([df]idx|blob)`, 255, names.ParseArchive),
	node:    api.Match("node", "The node: localhost.", `[A-Za-z0-9]([A-Za-z0-9\-]*[A-Za-z0-9])?`, 64),
	upid:    api.Parsed("upid", "The task.", "", 512, upid.Parse),
	user:    api.Parsed("userid", "A user, name@realm.", "", 64, parseUser),
	auth:    api.Parsed("auth-id", "A user or an API token.", "", 128, names.ParseAuthID),
	comment: api.Line("comment", "A comment of one line.", 128).Optional(),
	digest:  param.Digest(),
	depth:   param.Depth(),
	path:    api.Parsed("path", "A place in the tree of privileges, as /datastore/tank.", "", 1024, access.ParsePath),
	dryRun:  api.Bool("dry-run", "Change nothing, only show what would be done.").Default(false),
	onProt:  api.Bool("error-on-protected", "Fail when protected snapshots are left.").Default(true),
}

// parseUser reads the id of a user, not of a token.
func parseUser(s string) (names.AuthID, error) {
	id, err := names.ParseAuthID(s)
	if err == nil && id.IsToken() {
		err = fmt.Errorf("%q is an API token, want a user", s)
	}
	return id, err
}

// The groups of parameters that come together.
func storeParams(more ...api.AnyParam) []api.AnyParam {
	return append([]api.AnyParam{params.store, params.ns}, more...)
}

func groupParams(more ...api.AnyParam) []api.AnyParam {
	return storeParams(append([]api.AnyParam{params.typ, params.id}, more...)...)
}

func snapParams(more ...api.AnyParam) []api.AnyParam {
	return groupParams(append([]api.AnyParam{params.time}, more...)...)
}

func groupOf(r *api.Request) names.Group {
	return names.Group{Type: params.typ.Of(r), ID: params.id.Of(r)}
}

func snapOf(r *api.Request) names.Snapshot {
	return names.Snapshot{NS: params.ns.Of(r), Group: groupOf(r), Time: params.time.Of(r)}
}

// content is the guard of calls on the content of a datastore.
func content(c access.Call) api.Guard { return api.Content(params.store, params.ns, c) }
