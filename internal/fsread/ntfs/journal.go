package ntfs

import "github.com/holdfast-backup/holdfast/internal/fsread"

const (
	recLog = 2

	restartPage = 4096
	noClient    = 0xffff
	logIsClean  = 0x0002
)

// inUse reports whether the journal ($LogFile) says that somebody had the volume mounted.
// Its first two pages are copies of what a restart needs, of which the one with the greater
// number counts: 24 offset of the area 2; the area: 0 number 8, 12 the first user of the
// journal 2, 14 flags 2. A journal that a repair has emptied is all ones.
func (f *FS) inUse() (bool, error) {
	r, err := f.load(recLog)
	if err != nil {
		return false, err
	}
	log, err := f.stream(r.find(typeData, ""), "$LogFile")
	if err != nil {
		return false, err
	}
	var newest uint64
	used := false
	for at := int64(0); at < 2*restartPage && at+restartPage <= log.Size(); at += restartPage {
		b := make([]byte, restartPage)
		if err := fsread.ReadFull(log, layer, b, at); err != nil {
			return false, err
		}
		if number, now, ok := restart(b); ok && number >= newest {
			newest, used = number, now
		}
	}
	return used, nil
}

// restart reads a page; not ok: it is none, or was torn when it was written.
func restart(b []byte) (number uint64, used, ok bool) {
	if string(b[:4]) != "RSTR" || fix(b, "RSTR", "restart page", 0) != nil {
		return 0, false, false
	}
	at := int(le.Uint16(b[24:]))
	if at > len(b)-16 {
		return 0, false, false
	}
	area := b[at:]
	return le.Uint64(area), le.Uint16(area[12:]) != noClient && le.Uint16(area[14:])&logIsClean == 0, true
}
