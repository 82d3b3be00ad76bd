package cli

import (
	"time"

	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

func newVolumeListCommand(a *app) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List mapped volumes",
		Long: `Lists mapped volumes with the device below, the image that the header names, and
since when they are mapped (not known of those that another program mapped). Other
device-mapper devices are left out.`,
		Example: `  holdfast volume list
  holdfast volume list --output-format json`,
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return runVolumeList(a, a.volumePrefix(prefix)) },
	}
	a.prefixFlag(cmd, &prefix)
	return cmd
}

// mappingJSON is a mapped volume as --output-format json shows it.
type mappingJSON struct {
	Name    string      `json:"name"`
	Node    string      `json:"node"`
	Device  string      `json:"device,omitempty"`
	Size    int64       `json:"size"`
	Access  string      `json:"access"` // writable, read-only, throw-away
	Since   string      `json:"since,omitempty"`
	Header  *headerJSON `json:"header,omitempty"`
	Trouble string      `json:"trouble,omitempty"` // why there is no header
}

func describeMapping(m volume.Mapping) mappingJSON {
	out := mappingJSON{Name: m.Name, Node: m.Node, Device: m.Device, Size: m.Size, Access: "writable"}
	switch {
	case m.ThrowAway:
		out.Access = "throw-away"
	case m.ReadOnly:
		out.Access = "read-only"
	}
	if !m.Since.IsZero() {
		out.Since = m.Since.UTC().Format(time.RFC3339)
	}
	if m.Trouble != nil {
		out.Trouble = m.Trouble.Error()
		return out
	}
	h := describeVolume(volume.Info{Device: m.Device, Size: m.Header.Start() + m.Size, Header: m.Header})
	out.Header = &h
	return out
}

func runVolumeList(a *app, prefix string) error {
	list, notices, err := volume.List(prefix)
	if err != nil {
		return explainVolume(err)
	}
	for _, n := range notices {
		a.warn("%v", n)
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "NAME"}, {Title: "DEVICE"}, {Title: "SIZE", Align: ui.Right}, {Title: "ACCESS"}, {Title: "IMAGE"}, {Title: "STATE"}, {Title: "SINCE"},
	}}
	all := []mappingJSON{}
	for _, m := range list {
		out := describeMapping(m)
		all = append(all, out)
		image, state := "-", "-"
		if m.Trouble == nil {
			image, state = imageText(m.Header), volumeState(m.Header)
		} else {
			a.warn("%s: %v", m.Name, m.Trouble)
		}
		t.Add(m.Name, orDash(m.Device), ui.Rough(m.Size), out.Access, image, state, orDash(out.Since))
	}
	return a.print(all, func() error {
		if len(all) == 0 {
			return a.printf("No volume is mapped.\n")
		}
		return a.table(&t)
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
