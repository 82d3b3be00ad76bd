package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// Names of what is put into QEMU. Nodes have at most 31 bytes.
const (
	stateID    = guest.Prefix + "state"
	incBitmap  = guest.Prefix + "inc"
	nbdFile    = guest.Prefix + "nbd"
	objectPath = "/objects/"
)

// state is what a run has done to QEMU that has no name of ours: see the
// package comment. It is written before the deed.
type state struct {
	Frozen  bool   `json:"frozen,omitempty"`
	Stopped bool   `json:"stopped,omitempty"`
	NBD     bool   `json:"nbd,omitempty"`
	Drives  []home `json:"drives,omitempty"`
}

// home says which node belongs to a device whose drive was exchanged.
type home struct {
	Device string `json:"device"`
	Node   string `json:"node"`
	Filter string `json:"filter"`
}

// loadState reads the state; ok is false when there is none.
func (g *Guest) loadState(ctx context.Context) (st state, ok bool, err error) {
	var list []struct{ Name string }
	if err := g.qmp.Run(ctx, "qom-list", map[string]any{"path": objectPath[:len(objectPath)-1]}, &list); err != nil {
		return state{}, false, err
	}
	for _, o := range list {
		ok = ok || o.Name == stateID
	}
	if !ok {
		return state{}, false, nil
	}
	var text string
	if err := g.qmp.Run(ctx, "qom-get", map[string]any{"path": objectPath + stateID, "property": "data"}, &text); err != nil {
		return state{}, true, err
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return state{}, true, fmt.Errorf("the object %s in QEMU: %w", stateID, err)
	}
	return st, true, nil
}

// saveState replaces the state; the first call makes the object.
func (g *Guest) saveState(ctx context.Context, st state) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	err = g.qmp.Run(ctx, "qom-set", map[string]any{"path": objectPath + stateID, "property": "data", "value": string(b)}, nil)
	if e, ok := errors.AsType[*qmp.Error](err); ok && e.Class == "DeviceNotFound" {
		return g.qmp.Run(ctx, "object-add", map[string]any{"qom-type": "secret", "id": stateID, "data": string(b)}, nil)
	}
	return err
}

func (g *Guest) dropState(ctx context.Context) error {
	return g.qmp.Run(ctx, "object-del", map[string]any{"id": stateID}, nil)
}
