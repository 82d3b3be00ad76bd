package drive

import "github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"

// usage counts what was done with the loaded medium.
type usage struct {
	written, reads            int64 // bytes since it was loaded
	blocksWritten, blocksRead uint64
	writeFailed, readFailed   uint64
}

func (u *usage) load() { *u = usage{} }

func (u *usage) write(n int) { u.written += int64(n); u.blocksWritten++ }
func (u *usage) read(n int)  { u.reads += int64(n); u.blocksRead++ }

// unload adds it to the life of the cartridge.
func (u *usage) unload(m *cartridge.Memory) {
	m.Written += u.written
	m.Read += u.reads
	if u.written > 0 {
		m.Changes++
	}
	*u = usage{}
}
