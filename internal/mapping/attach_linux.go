package mapping

import (
	"context"
	"fmt"
)

func (m *Mapping) attach(ctx context.Context) (backend, error) {
	switch m.spec.Mode {
	case Loop:
		return m.attachLoop(ctx)
	case NBD:
		return m.attachNBD(ctx)
	case File:
		return m.attachFile()
	case Socket:
		return m.attachSocket()
	}
	return nil, fmt.Errorf("unknown mode %q", m.spec.Mode)
}
