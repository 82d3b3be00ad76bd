package provider

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// The kinds of errors on the wire.
const (
	kindUsage     = "usage"
	kindNotFound  = "not-found"
	kindProtected = "protected"
	kindNeeded    = "needed"
	kindCorrupt   = "corrupt"
	kindCancelled = "cancelled"
	kindFailed    = "failed"
)

// RemoteError is an error that came over the wire.
type RemoteError struct {
	Kind    string
	Message string
}

func (e *RemoteError) Error() string { return e.Message }

func kindOf(err error) string {
	if remote, ok := errors.AsType[*RemoteError](err); ok {
		return remote.Kind
	}
	if _, ok := errors.AsType[*repo.CorruptError](err); ok {
		return kindCorrupt
	}
	for _, k := range []struct {
		is   error
		kind string
	}{
		{ErrUsage, kindUsage},
		{names.ErrName, kindUsage},
		{repo.ErrNotFound, kindNotFound},
		{repo.ErrProtected, kindProtected},
		{ErrNeeded, kindNeeded},
		{repo.ErrChunkMissing, kindCorrupt},
		{ErrAborted, kindCancelled},
		{context.Canceled, kindCancelled},
	} {
		if errors.Is(err, k.is) {
			return k.kind
		}
	}
	return kindFailed
}
