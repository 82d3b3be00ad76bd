//go:build !linux

package server

import "errors"

type machine struct{}

func (*machine) status() (*nodeItem, error) {
	return nil, errors.New("how the machine is doing is only known on Linux")
}
