package libvirt

import (
	"encoding/xml"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// changedBitmap is what the bitmap of an incremental backup is exported as.
const changedBitmap = "changed"

type backupXML struct {
	XMLName xml.Name  `xml:"domainbackup"`
	Mode    string    `xml:"mode,attr"`
	Server  serverXML `xml:"server"`
	Disks   []diskXML `xml:"disks>disk"`
}

type serverXML struct {
	Transport string `xml:"transport,attr"`
	Socket    string `xml:"socket,attr"`
}

type diskXML struct {
	Name        string      `xml:"name,attr"`
	Backup      string      `xml:"backup,attr"`
	Type        string      `xml:"type,attr,omitempty"`
	Mode        string      `xml:"backupmode,attr,omitempty"`
	Incremental string      `xml:"incremental,attr,omitempty"`
	Export      string      `xml:"exportname,attr,omitempty"`
	Bitmap      string      `xml:"exportbitmap,attr,omitempty"`
	Scratch     *scratchXML `xml:"scratch,omitempty"`
}

type scratchXML struct {
	File string `xml:"file,attr"`
}

type checkpointXML struct {
	XMLName xml.Name            `xml:"domaincheckpoint"`
	Name    string              `xml:"name"`
	Created int64               `xml:"creationTime,omitempty"` // seconds since 1970; only where it is redefined
	Disks   []checkpointDiskXML `xml:"disks>disk"`
}

type checkpointDiskXML struct {
	Name       string `xml:"name,attr"`
	Checkpoint string `xml:"checkpoint,attr"`
}

// checkpointText describes a checkpoint with a bitmap for some of a domain's
// disks.
func checkpointText(b guest.Bitmap, with, all []string, redefine bool) string {
	c := checkpointXML{Name: string(b)}
	if redefine {
		c.Created = b.Time()
	}
	has := map[string]bool{}
	for _, target := range with {
		has[target] = true
	}
	for _, target := range all {
		kind := "no"
		if has[target] {
			kind = "bitmap"
		}
		c.Disks = append(c.Disks, checkpointDiskXML{target, kind})
	}
	return marshal(c)
}

func marshal(v any) string {
	b, err := xml.Marshal(v)
	if err != nil { // only types of this file
		panic("libvirt: " + err.Error())
	}
	return string(b)
}
