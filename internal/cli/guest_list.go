package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newGuestListCommand(a *app) *cobra.Command {
	var sockets []string
	var domains libvirtFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the disks of running virtual machines, and their bitmaps",
		Long: `Shows what 'holdfast guest backup' would find: the disks of each guest with the
names that their archives get, which are left out and why, and the dirty bitmaps
that Holdfast keeps there; or with --libvirt all domains and their disks. Nothing
is changed.`,
		Example: `  holdfast guest list --qmp /run/vm100.qmp --qmp /run/vm101.qmp
  holdfast guest list --libvirt qemu:///system`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if domains.uri != "" {
				return a.listDomains(cmd.Context(), domains)
			}
			return runGuestList(cmd.Context(), a, sockets)
		},
	}
	cmd.Flags().StringArrayVar(&sockets, "qmp", nil, "unix socket of a QEMU's monitor (repeatable)")
	domains.reach(cmd.Flags())
	cmd.MarkFlagsMutuallyExclusive("qmp", "libvirt")
	return cmd
}

// guestJSON is a guest of the list.
type guestJSON struct {
	QMP string `json:"qmp"`
	qemu.Description
}

func runGuestList(ctx context.Context, a *app, sockets []string) error {
	if len(sockets) == 0 {
		return hint(usagef("no guest is named"), "pass --qmp SOCKET, or --libvirt URI")
	}
	var all []guestJSON
	var errs []error
	for _, s := range sockets {
		d, err := describe(ctx, a, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, guestJSON{s, d})
	}
	if len(all) == 0 && len(errs) > 0 {
		return errors.Join(errs...)
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "GUEST"},
		{Title: "STATE"},
		{Title: "DISK"},
		{Title: "SIZE", Align: ui.Right},
		{Title: "FORMAT"},
		{Title: "CHANGED", Align: ui.Right},
		{Title: "NOTE"},
	}}
	for _, g := range all {
		for _, d := range g.Disks {
			changed, note := changes(d)
			t.Add(g.Name, g.Status, d.Name, ui.Size(d.Size), d.Driver, changed, note)
		}
	}
	return errors.Join(append(errs, a.print(all, func() error { return a.table(&t) }))...)
}

// changes is what the newest of our bitmaps says.
func changes(d qemu.Disk) (changed, note string) {
	notes := []string{}
	if d.Why != "" {
		notes = append(notes, "left out: "+d.Why)
	}
	ours := 0
	for _, b := range d.Bitmaps {
		if !strings.HasPrefix(b.Name, "holdfast-") {
			continue
		}
		if ours++; b.Inconsistent {
			notes = append(notes, "a bitmap is inconsistent")
			continue
		}
		changed = ui.Size(b.Count)
	}
	if ours > 1 {
		notes = append(notes, plural(ours, "bitmap"))
	}
	return changed, strings.Join(notes, "; ")
}

func describe(ctx context.Context, a *app, socket string) (_ qemu.Description, err error) {
	g, err := qemu.Open(ctx, qemu.Options{QMP: socket, Log: a.log()})
	if err != nil {
		return qemu.Description{}, explainGuest(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return g.Describe(ctx)
}
