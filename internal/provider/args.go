package provider

import (
	"encoding/json"
	"fmt"
)

// The arguments of the calls, in the words of the platform.

type jobArgs struct {
	Start int64 `json:"start-time"`
}

type guestArgs struct {
	VMID int  `json:"vmid"`
	Kind Kind `json:"vmtype"`
}

func (a guestArgs) guest() Guest { return Guest{a.Kind, a.VMID} }

type initArgs struct {
	guestArgs
	Start int64 `json:"start-time"`
}

// taskArgs are those of calls that a process which was not there for backup_init
// can make: it names the archive.
type taskArgs struct {
	guestArgs
	Archive string `json:"archive-name"`
}

type cleanupArgs struct {
	taskArgs
	Success flag `json:"success"`
	Info    struct {
		Error string `json:"error"`
	} `json:"info"`
}

type logArgs struct {
	taskArgs
	Filename string `json:"filename"`
}

type sizeJSON struct {
	Size int64 `json:"size"`
}

type queryArgs struct {
	VMID    int                 `json:"vmid"`
	Volumes map[string]sizeJSON `json:"volumes"`
}

type vmArgs struct {
	VMID    int                   `json:"vmid"`
	Archive string                `json:"archive-name"`
	Config  string                `json:"guest-config"`
	Volumes map[string]volumeJSON `json:"volumes"`
	Info    struct {
		Rate     int64   `json:"bandwidth-limit"`
		Firewall *string `json:"firewall-config"`
	} `json:"info"`
}

type volumeJSON struct {
	Size    int64    `json:"size"`
	Mode    Mode     `json:"bitmap-mode"`
	Bitmap  string   `json:"bitmap-name"`
	NBD     string   `json:"nbd-path"`
	Path    string   `json:"path"`
	Regions []Region `json:"dirty-regions"`
	Discard flag     `json:"discard"`
}

func (a vmArgs) machine() Machine {
	m := Machine{Configs: configs(a.Config, a.Info.Firewall), Disks: make(map[string]Disk, len(a.Volumes)), Rate: a.Info.Rate}
	for device, v := range a.Volumes {
		if v.Mode == "" {
			v.Mode = ModeNone
		}
		m.Disks[device] = Disk{
			Size: v.Size, Mode: v.Mode,
			NBDPath: v.NBD, BitmapName: v.Bitmap,
			Path: v.Path, Regions: v.Regions, Punch: bool(v.Discard),
		}
	}
	return m
}

func configs(guest string, firewall *string) Configs {
	c := Configs{Guest: []byte(guest)}
	if firewall != nil {
		c.Firewall = []byte(*firewall)
	}
	return c
}

type infoJSON struct {
	Directory string   `json:"directory"`
	Sources   []string `json:"sources"`
	UserID    int      `json:"backup-user-id"`
	Rate      int64    `json:"bandwidth-limit"`
	Firewall  *string  `json:"firewall-config"`
}

func (i infoJSON) info() ContainerInfo {
	return ContainerInfo{Directory: i.Directory, Sources: i.Sources, UserID: i.UserID, Rate: i.Rate}
}

type prepareArgs struct {
	VMID    int      `json:"vmid"`
	Archive string   `json:"archive-name"`
	Info    infoJSON `json:"info"`
}

// ContainerCall are the arguments of backup_container, which the walker takes
// and passes on.
type ContainerCall struct {
	VMID    int      `json:"vmid"`
	Archive string   `json:"archive-name"`
	Config  string   `json:"guest-config"`
	Exclude []string `json:"exclude-patterns"`
	Info    infoJSON `json:"info"`
}

// ParseContainerCall reads the arguments of backup_container.
func ParseContainerCall(args []byte) (c ContainerCall, err error) {
	err = strictly(args, &c)
	return c, err
}

func (c ContainerCall) configs() Configs { return configs(c.Config, c.Info.Firewall) }

type archiveArgs struct {
	Archive string `json:"volname"`
}

type volumeArgs struct {
	Archive string `json:"volname"`
	Device  string `json:"device"`
}

// flag is a truth of Perl: 1, 0, "" and what JSON has for it.
type flag bool

// UnmarshalJSON reads true, false, numbers and texts of them.
func (f *flag) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v {
	case true, 1.0, "1":
		*f = true
	case false, 0.0, "0", "", nil:
		*f = false
	default:
		return fmt.Errorf("%s is neither true nor false", b)
	}
	return nil
}

// text is nil for a file that is not there.
func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

// Prepared is what backup_container_prepare is told of the same container.
func (c ContainerCall) Prepared() ContainerInfo { return c.Info.info() }
