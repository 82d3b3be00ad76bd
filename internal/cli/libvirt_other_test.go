//go:build !linux

package cli

import "github.com/rogpeppe/go-internal/testscript"

func hasLibvirt() (bool, error) { return false, nil }

func startLibvirt(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Fatalf("libvirt's QEMU driver is for Linux")
}
