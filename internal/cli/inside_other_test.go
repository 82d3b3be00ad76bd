//go:build !linux

package cli

import "github.com/rogpeppe/go-internal/testscript"

// inside is for Linux, which has user namespaces.
func inside(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("inside: needs Linux") }

// loopMount is for Linux, which mounts files.
func loopMount(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("loopmount: needs Linux") }

// unfreeze is for Linux, where files can be immutable.
func unfreeze(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("unfreeze: needs Linux") }
