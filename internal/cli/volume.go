package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

func newVolumeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Raw devices that remember which image they hold",
		Long: `A volume is a raw block device, as a LUN, a partition or a logical volume, with
a header in its first sector that says which disk image it was filled from. The
rest is mapped as a device of its own, below /dev/mapper, for a guest.

'holdfast restore SNAPSHOT ARCHIVE --volume DEVICE' fills a volume and maps it. If
it holds that image already it is kept as it is, with what the guest wrote;
otherwise only what differs is written. A restore that stops in between is seen by
the header, and the next one goes on.

Headers of Virtlet are read too, and their devices listed, mapped and unmapped.
Mapping needs root and a Linux kernel with device-mapper, nothing else: neither
dmsetup nor LVM.

Names of mapped volumes begin with virtlet-dm-, or with what
HOLDFAST_VOLUME_PREFIX or --prefix says. Everything else below /dev/mapper is
left alone.`,
		Example: `  holdfast restore vm/100 disk.img --volume /dev/vg0/vm-100
  holdfast volume list
  holdfast volume unmap virtlet-dm-vm-100
  holdfast volume verify /dev/vg0/vm-100`,
	}
	cmd.AddCommand(newVolumeEnsureCommand(a), newVolumeMapCommand(a), newVolumeUnmapCommand(a), newVolumeListCommand(a),
		newVolumeHeaderCommand(a), newVolumeVerifyCommand(a))
	return cmd
}

// prefixFlag adds --prefix to a command.
func (a *app) prefixFlag(cmd *cobra.Command, prefix *string) {
	cmd.Flags().StringVar(prefix, "prefix", "", "how names of mapped volumes begin (default: HOLDFAST_VOLUME_PREFIX, or "+volume.DefaultPrefix+")")
}

// volumePrefix is what names of mapped volumes begin with.
func (a *app) volumePrefix(flag string) string {
	if flag == "" {
		flag = a.getenv("HOLDFAST_VOLUME_PREFIX")
	}
	if flag == "" {
		flag = volume.DefaultPrefix
	}
	return flag
}

// explainVolume gives errors their exit code and adds what to do.
func explainVolume(err error) error {
	if err == nil {
		return nil
	}
	if _, busy := errors.AsType[*volume.BusyError](err); busy {
		return hint(mark(repo.ErrLocked, "%v", err), "unmount it, end who uses it, or take its mapping away with 'holdfast volume unmap'")
	}
	if p, ok := errors.AsType[*volume.PrefixError](err); ok {
		return hint(usage(err), "write %s%s, or choose another beginning with --prefix", p.Prefix, p.Name)
	}
	if _, ok := errors.AsType[*volumeheader.VersionError](err); ok {
		return hint(err, "use the version of holdfast that wrote it, or a later one")
	}
	if _, ok := errors.AsType[*volume.TooSmallError](err); ok {
		return hint(err, "take a larger device, or enlarge this one")
	}
	switch {
	case errors.Is(err, volume.ErrNotMapped):
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast volume list' shows what is mapped")
	case errors.Is(err, dm.ErrExists):
		return hint(mark(repo.ErrLocked, "%v", err), "choose another name; 'holdfast volume list' shows what is mapped")
	case errors.Is(err, volumeheader.ErrNone):
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast restore SNAPSHOT ARCHIVE --volume DEVICE' makes a device a volume")
	case errors.Is(err, volumeheader.ErrFormat):
		return hint(mark(errDamaged, "%v", err), "'holdfast restore SNAPSHOT ARCHIVE --volume DEVICE' makes the device a volume again")
	case errors.Is(err, dm.ErrNoDriver):
		return hint(err, "'holdfast map' and 'holdfast nbd serve' need no device-mapper")
	}
	return err
}

// headerJSON is a device and its header as --output-format json shows them.
type headerJSON struct {
	Device     string `json:"device"`
	DeviceSize int64  `json:"device-size"`
	Version    int    `json:"version"`
	Start      int64  `json:"payload-offset"`
	Payload    int64  `json:"payload-size"`
	State      string `json:"state"` // "unrecorded" in a header without a record
	Digest     string `json:"digest"`
	Size       int64  `json:"size,omitempty"` // of the image
	Repository string `json:"repository,omitempty"`
	Namespace  string `json:"ns,omitempty"`
	Snapshot   string `json:"snapshot,omitempty"`
	Archive    string `json:"archive,omitempty"`
	Changed    string `json:"changed,omitempty"`
}

func describeVolume(i volume.Info) headerJSON {
	h := i.Header
	out := headerJSON{
		Device: i.Device, DeviceSize: i.Size, Version: h.Version(), Start: h.Start(), Payload: i.Payload(),
		State: volumeState(h), Digest: h.Digest().String(),
	}
	if r := h.Record; r != nil {
		out.Size, out.Repository, out.Changed = r.Size, r.Repository, time.Unix(r.Changed, 0).UTC().Format(time.RFC3339)
		if r.Named() {
			out.Namespace, out.Snapshot, out.Archive = r.Snapshot.NS.String(), show(r.Snapshot), r.Archive.ClientName()
		}
	}
	return out
}

func volumeState(h volumeheader.Header) string {
	if h.Record == nil {
		return "unrecorded"
	}
	return h.Record.State.String()
}

// imageText says what a volume holds in a few words.
func imageText(h volumeheader.Header) string {
	if r := h.Record; r != nil && r.Named() {
		return show(r.Snapshot) + " " + r.Archive.ClientName()
	}
	return h.Digest().String()
}

// lines are those of 'volume header'.
func (h headerJSON) lines() ui.Table {
	t := ui.Table{Columns: []ui.Column{{Title: "FIELD"}, {Title: "VALUE"}}}
	t.Add("device", fmt.Sprintf("%s, %s", h.Device, ui.Size(h.DeviceSize)))
	t.Add("version", strconv.Itoa(h.Version))
	t.Add("state", h.State)
	t.Add("digest", h.Digest)
	t.Add("payload", fmt.Sprintf("%s from byte %d on", ui.Size(h.Payload), h.Start))
	if h.Changed != "" {
		t.Add("image", ui.Size(h.Size))
		t.Add("changed", h.Changed)
	}
	if h.Snapshot != "" {
		t.Add("snapshot", h.Snapshot)
		t.Add("archive", h.Archive)
		t.Add("repository", h.Repository)
	}
	return t
}
