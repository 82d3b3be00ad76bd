//go:build !linux

package server

import "errors"

type machine struct{}

func (*machine) status() (*nodeItem, error) {
	return nil, errors.New("how the machine is doing is only known on Linux")
}

func traffic() (in, out float64, err error) {
	return 0, 0, errors.New("how much the network carries is only known on Linux")
}
