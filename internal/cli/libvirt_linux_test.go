package cli

import (
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
	"github.com/rogpeppe/go-internal/testscript"
)

// hasLibvirt reports whether a script can have a daemon of libvirt.
func hasLibvirt() (bool, error) {
	why := libvirttest.Missing()
	if why != "" && os.Getenv("CI") == "true" {
		return false, errors.New(why)
	}
	return why == "", nil
}

// startLibvirt runs a daemon of libvirt until the script ends. It sets $LIBVIRT
// to its address and $LVDIR to its directory.
func startLibvirt(ts *testscript.TestScript, _ bool, _ []string) {
	d, err := libvirttest.Start()
	ts.Check(err)
	ts.Defer(func() { ts.Check(d.Stop()) })
	ts.Setenv("LIBVIRT", d.URI())
	ts.Setenv("LVDIR", d.Dir)
	ts.Setenv("HOLDFAST_RUN_DIR", d.Dir+"/r") // sockets have short paths
}
