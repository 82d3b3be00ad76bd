//go:build !linux

package mapping

import (
	"context"
	"errors"
	"fmt"
)

func (m *Mapping) attach(context.Context) (backend, error) {
	if m.spec.Mode != Socket {
		return nil, fmt.Errorf("mode %s: %w: use mode socket", m.spec.Mode, errors.ErrUnsupported)
	}
	return m.attachSocket()
}

func release(context.Context, Record, bool) error { return nil }

func lastResort(Record) {}

func foreign(_ string, err error) error { return err }
