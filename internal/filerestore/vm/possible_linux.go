package vm

import (
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/initbin"
)

// Possible says what is missing for a machine on this host.
func Possible() error {
	if err := appliance.HaveQEMU(""); err != nil {
		return err
	}
	_, err := appliance.FindKernel(appliance.KernelSearch{})
	return err
}

// Self is the appliance whose /init came with this program, or is this program.
func Self() (Appliance, error) {
	if program := initbin.Program(); program != nil {
		return Appliance{InitData: program}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return Appliance{}, fmt.Errorf("find this program's own file: %w", err)
	}
	return Appliance{Init: self}, nil
}
