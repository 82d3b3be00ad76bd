// Package repoerr carries the errors of a repository over the wire, so that a
// caller can tell them apart on the other side as well.
//
//	error                  status  kind
//	repo.ErrNotFound       400     not-found      404 where a call says so
//	repo.ErrExists         400     exists
//	repo.ErrLocked         400     locked
//	repo.ErrProtected      400     protected
//	repo.ErrOwner          400     owner
//	repo.ErrChunkMissing   400     chunk-missing
//	*repo.CorruptError     400     corrupt
//	anything else          400     none: it could not be found out
//
// The kind travels in a header of our own (rest.KindHeader). A Proxmox Backup
// Server sends none; what it says is then looked through for the words that it
// uses. These words are no contract, and so a sentence without them is simply an
// error.
package repoerr

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

var kinds = []struct {
	word string
	err  error
}{
	{"not-found", repo.ErrNotFound},
	{"exists", repo.ErrExists},
	{"locked", repo.ErrLocked},
	{"protected", repo.ErrProtected},
	{"owner", repo.ErrOwner},
	{"chunk-missing", repo.ErrChunkMissing},
}

const corrupt = "corrupt"

// ToWire gives an error of a repository its status and kind. An error that has a
// status keeps it.
func ToWire(err error) error { return WithStatus(err, http.StatusBadRequest) }

// WithStatus is ToWire with another status for an error that has none.
func WithStatus(err error, status int) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*rest.Error](err); ok {
		return &rest.Error{Status: e.Status, Kind: e.Kind, Text: err.Error(), Err: err}
	}
	out := &rest.Error{Status: status, Text: err.Error(), Err: err}
	if _, ok := errors.AsType[*repo.CorruptError](err); ok {
		out.Kind = corrupt
		return out
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			out.Kind = k.word
			break
		}
	}
	return out
}

// FromWire returns an error that is of the kind that a server's refusal says.
// Other errors pass as they are.
func FromWire(err error) error {
	e, ok := errors.AsType[*rest.Error](err)
	if !ok {
		return err
	}
	if e.Kind == corrupt {
		return &repo.CorruptError{What: "what the server has stored", Err: err}
	}
	for _, k := range kinds {
		if e.Kind == k.word {
			return kinded{err, k.err}
		}
	}
	if e.Kind == "" {
		if kind := guess(e); kind != nil {
			return kinded{err, kind}
		}
	}
	return err
}

// kinded is a server's sentence with the kind of error that it is.
type kinded struct {
	error
	kind error
}

func (k kinded) Unwrap() []error { return []error{k.error, k.kind} }

// words are what a Proxmox Backup Server writes, in lower case. The first that
// fits decides.
var words = []struct {
	text string
	err  error
}{
	{"is protected", repo.ErrProtected},
	{"owner check failed", repo.ErrOwner},
	{"unable to acquire lock", repo.ErrLocked},
	{"unable to get shared lock", repo.ErrLocked},
	{"could not lock", repo.ErrLocked},
	{"is locked", repo.ErrLocked},
	{"ewouldblock", repo.ErrLocked},
	{"try again", repo.ErrLocked},
	{"already exists", repo.ErrExists},
	{"timestamp is older than last backup", repo.ErrExists},
	{"no such file or directory", repo.ErrNotFound},
	{"enoent", repo.ErrNotFound},
	{"does not exist", repo.ErrNotFound},
	{"no such", repo.ErrNotFound},
	{"not found", repo.ErrNotFound},
}

func guess(e *rest.Error) error {
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		return nil
	}
	text := strings.ToLower(e.Text)
	for _, w := range words {
		if strings.Contains(text, w.text) {
			return w.err
		}
	}
	if e.Status == http.StatusNotFound {
		return repo.ErrNotFound
	}
	return nil
}

// Missing makes an error of the kind repo.ErrNotFound.
func Missing(status int, format string, args ...any) error {
	return &rest.Error{Status: status, Kind: "not-found", Text: fmt.Sprintf(format, args...), Err: repo.ErrNotFound}
}
