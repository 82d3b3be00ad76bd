package lto_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

func TestDriverKeepsThePromisesOfADrive(t *testing.T) {
	for _, tc := range []struct {
		name    string
		density cartridge.Density
		drive   drive.Config
	}{
		{"LTO-4", cartridge.LTO4, drive.Config{Generation: 4}},
		{"LTO-8 of IBM", cartridge.LTO8, drive.Config{Generation: 8}},
		{"LTO-6 of HP with long answers", cartridge.LTO6, drive.Config{Generation: 6, HP: true, Quirks: drive.Quirks{Padded: true}}},
		{"LTO-9 without LOCATE", cartridge.LTO9, drive.Config{Generation: 9, Quirks: drive.Quirks{NoLocateFile: true, NoEncryption: true}}},
		{"LTO-10", cartridge.LTO10H, drive.Config{Generation: 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tapetest.Run(t, func(t *testing.T) tape.Drive {
				return newBench(t, func(s *setup) {
					s.drive, s.medium.Density = tc.drive, tc.density
					s.drive.Serial = "DRV0000001"
				}).open(lto.Config{})
			})
		})
	}
}
