package nbdclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// ExportInfo is what a server says about an export.
type ExportInfo struct {
	Name, Description string
	Size              int64 // -1: the server does not tell
	Flags             nbd.ExportFlags
	Blocks            nbd.BlockSizes
	Contexts          []string // all that it has
}

// List asks a server for its exports; that of the URI does not matter.
func List(ctx context.Context, u nbd.URI, o Options) ([]ExportInfo, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var all []ExportInfo
	h, err := connect(ctx, u, o, func(h *shake) (err error) {
		all, err = h.list()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list of exports: %w", u, err)
	}
	h.abort()
	return all, nil
}

func (h *shake) list() ([]ExportInfo, error) {
	var all []ExportInfo
	err := h.ask(nbd.OptList, nil, func(t nbd.ReplyType, b []byte) error {
		if t != nbd.RepServer {
			return fmt.Errorf("%w: LIST is answered with %s", ErrProtocol, t)
		}
		s, err := nbd.ParseServer(b)
		if err != nil {
			return err
		}
		all = append(all, ExportInfo{Name: s.Name, Description: s.Description, Size: -1})
		return nil
	})
	if e, ok := errors.AsType[*nbd.OptionError](err); ok && e.Type == nbd.RepErrTLSReqd {
		return nil, tlsRequired(err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := h.dialectOnce(); err != nil {
		return nil, err
	}
	for i := range all {
		if err := h.describe(&all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// describe adds what the server tells without opening the export.
func (h *shake) describe(e *ExportInfo) error {
	var s session
	err := h.info(&s, nbd.OptInfo, e.Name)
	if _, refused := errors.AsType[*nbd.OptionError](err); refused {
		return nil
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return err
	}
	e.Size, e.Flags, e.Blocks = s.size, s.flags, s.sizes
	if s.about != "" {
		e.Description = s.about
	}
	return h.listContexts(e.Name, nil, func(name string) error {
		if len(e.Contexts) == maxReplies {
			return fmt.Errorf("%w: too many contexts", ErrProtocol)
		}
		e.Contexts = append(e.Contexts, name)
		return nil
	})
}
