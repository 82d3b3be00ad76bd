package vm

import (
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/appliance"
)

// Possible says what is missing for a machine on this host.
func Possible() error {
	if err := appliance.HaveQEMU(""); err != nil {
		return err
	}
	_, err := appliance.FindKernel(appliance.KernelSearch{})
	return err
}

// Self is the appliance whose /init is this program.
func Self() (Appliance, error) {
	self, err := os.Executable()
	if err != nil {
		return Appliance{}, fmt.Errorf("find this program's own file: %w", err)
	}
	return Appliance{Init: self}, nil
}
