//go:build !linux

package provider

import (
	"net"
	"os"
	"strconv"
)

// ProcessOf knows no process here, so that everything is read.
func ProcessOf(string) (string, error) { return "", nil }

func processBehind(net.Conn) (string, error) { return "", nil }

// ScratchName is the name of this process's directory in a common place.
func ScratchName() (string, error) { return strconv.Itoa(os.Getpid()), nil }
