package vm

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/initbin"
)

// Possible says what is missing for a machine on this host.
func Possible() error {
	if err := appliance.HaveQEMU("", ""); err != nil {
		return err
	}
	_, err := appliance.FindKernel(appliance.KernelSearch{})
	return err
}

// For is the appliance for a kind of processor ("": that of this program), whose /init came
// with this program, or is this program.
func For(arch string) (Appliance, error) {
	if err := appliance.HaveQEMU(arch, ""); err != nil && !errors.Is(err, appliance.ErrNoQEMU) {
		return Appliance{}, err // there is no such kind
	}
	a := Appliance{Arch: arch, Kernel: appliance.KernelSearch{Arch: arch}}
	if arch == "" {
		arch = runtime.GOARCH
	}
	var err error
	if a.InitData, err = initbin.Program(arch); err != nil || a.InitData != nil {
		return a, err
	}
	if arch != runtime.GOARCH {
		return a, fmt.Errorf("this program was built without what a machine for %s starts with: 'make build' puts it in", arch)
	}
	if a.Init, err = os.Executable(); err != nil {
		return a, fmt.Errorf("find this program's own file: %w", err)
	}
	return a, nil
}
