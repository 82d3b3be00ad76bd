package drive

import (
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

func identity(cfg Config) spc.Identity {
	id := spc.Identity{
		Type:     spc.Tape,
		Vendor:   "IBM",
		Product:  "ULT3580-TD" + strconv.Itoa(cfg.Generation),
		Revision: cfg.Revision,
		Serial:   cfg.Serial,
		Pages:    map[byte][]byte{0xb0: {0x01, 0}, 0xb1: []byte(cfg.Serial)}, // it knows WORM; the maker's serial number
	}
	if cfg.HP {
		id.Vendor = "HP"
		id.Product = "Ultrium " + strconv.Itoa(cfg.Generation) + "-SCSI"
	}
	if id.Revision == "" {
		id.Revision = "HF10"
	}
	return id
}
