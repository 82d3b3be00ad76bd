package guest

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

const (
	markKey     = "holdfast-guest"
	markVersion = 1
)

// Mark ties the bitmaps of a guest to the snapshot that they began with, by
// archive. See the package comment.
type Mark map[names.Archive]Bitmap

type markJSON struct {
	Version int                        `json:"version"`
	Disks   map[names.Archive]markDisk `json:"disks"`
}

type markDisk struct {
	Bitmap string `json:"bitmap"`
}

// Put writes the mark into the unprotected part of a manifest; an empty mark is
// none.
func (m Mark) Put(to *manifest.Manifest) error {
	if len(m) == 0 {
		return to.SetRaw(markKey, nil)
	}
	j := markJSON{Version: markVersion, Disks: map[names.Archive]markDisk{}}
	for name, b := range m {
		j.Disks[name] = markDisk{string(b)}
	}
	text, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("mark of the guest: %w", err)
	}
	return to.SetRaw(markKey, text)
}

// MarkOf reads the mark of a manifest. What is not a mark of this owner for
// this very snapshot is left out.
func MarkOf(m *manifest.Manifest, owner Owner) Mark {
	text, ok := m.Raw(markKey)
	if !ok {
		return nil
	}
	var j markJSON
	if err := json.Unmarshal(text, &j); err != nil || j.Version != markVersion {
		return nil
	}
	mark := Mark{}
	for name, d := range j.Disks {
		b, err := ParseBitmap(d.Bitmap)
		if err == nil && b.Owner() == owner && b.Time() == m.BackupTime {
			mark[name] = b
		}
	}
	return mark
}
