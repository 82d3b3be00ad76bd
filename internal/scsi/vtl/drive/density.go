package drive

import "github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"

// reads and writes say which media a drive of its generation takes: up to 7 it
// reads two generations back and writes one, 8 and 9 do one, 10 none.
func (d *Drive) reads(m cartridge.Density) bool  { return d.fits(m, 2) }
func (d *Drive) writes(m cartridge.Density) bool { return d.fits(m, 1) }

func (d *Drive) fits(m cartridge.Density, back int) bool {
	f, _ := m.Format()
	switch g := d.cfg.Generation; {
	case m == cartridge.LTO7M8:
		return g == 8
	case g >= 10:
		back = 0
	case g >= 8:
		back = 1
	}
	return f.Generation <= d.cfg.Generation && f.Generation >= d.cfg.Generation-back
}
