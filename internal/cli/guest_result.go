package cli

import (
	"github.com/holdfast-backup/holdfast/internal/guest"
)

// guestDiskJSON says how the bitmap of a disk was used.
type guestDiskJSON struct {
	Name    string     `json:"name"`
	Archive string     `json:"archive"`
	Size    int64      `json:"size"`
	Bitmap  guest.Mode `json:"bitmap-mode"`
	Why     string     `json:"why,omitempty"`
}

// showGuestBackup is showBackup with the disks.
func (a *app) showGuestBackup(rep guest.Report, crypt cryptChoice) error {
	var disks []guestDiskJSON
	for _, d := range rep.Disks {
		disks = append(disks, guestDiskJSON{d.Name, string(d.Archive), d.Size, d.Mode, d.Why})
	}
	return a.showBackupWith(rep.Report, crypt, disks)
}
