package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

// volumeFlags are those of a restore onto a volume.
type volumeFlags struct {
	device  string
	mapAs   string
	noMap   bool
	refill  bool
	aligned bool
}

func (v *volumeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.device, "volume", "", "fill the volume on this block device, instead of a TARGET, and map it")
	f.StringVar(&v.mapAs, "map-as", "", "with --volume: the name below /dev/mapper (default: the prefix and the device's name)")
	f.BoolVar(&v.noMap, "no-map", false, "with --volume: do not map it")
	f.BoolVar(&v.refill, "refill", false, "with --volume: bring the image back even if the volume holds it, with what a guest wrote")
	f.BoolVar(&v.aligned, "aligned", false, "with --volume: begin at 1 MiB instead of behind the first sector, on a device that is no volume yet")
}

// checkVolume refuses what does not go with a volume, and puts it in the target's place.
func (o *restoreOptions) checkVolume(cmd *cobra.Command) error {
	v := o.volume
	if v.device == "" {
		for _, name := range []string{"map-as", "no-map", "refill", "aligned"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s goes with --volume", name)
			}
		}
		return nil
	}
	switch {
	case o.target != "":
		return usagef("--volume takes the place of the TARGET %s", o.target)
	case o.inPlace, o.overwrite:
		return usagef("--volume writes only what differs, always: neither --in-place nor --overwrite goes with it")
	case o.allowHoles:
		return usagef("a volume holds a whole image or none: --allow-holes does not go with --volume")
	case v.noMap && v.mapAs != "":
		return usagef("--no-map and --map-as exclude each other")
	}
	o.target = v.device
	o.inPlace = true
	return nil
}

// mappedName is the name of the mapping, "" for none.
func (a *app) mappedName(v volumeFlags) (string, error) {
	if v.noMap {
		return "", nil
	}
	prefix := a.volumePrefix("")
	name := v.mapAs
	if name == "" {
		name = prefix + strings.Map(func(c rune) rune {
			if c < 0x80 && volume.CheckName(prefix+string(c), prefix) == nil {
				return c
			}
			return '_'
		}, filepath.Base(v.device))
	}
	if err := volume.CheckName(name, prefix); err != nil {
		return "", explainVolume(err)
	}
	return name, mappable(v.device, name, prefix)
}

// mappable finds out before hours of work what would be in the way of a mapping in the
// end. Mapping itself looks again.
func mappable(device, name, prefix string) error {
	if info, err := os.Stat(device); err == nil && info.Mode().IsRegular() {
		return usagef("%s is a file, which is filled but cannot be mapped: pass --no-map", device)
	}
	list, _, err := volume.List(prefix)
	if err != nil {
		return explainVolume(err)
	}
	node, err := filepath.EvalSymlinks(device)
	if err != nil {
		return nil //nolint:nilerr // filling it says so in more words
	}
	for _, m := range list {
		if m.Name == name && m.Device != node {
			return hint(mark(repo.ErrLocked, "%s is the name of another volume, on %s", name, m.Device), "choose another one with --map-as")
		}
	}
	return nil
}

func (a *app) restoreVolume(ctx context.Context, r repo.Repository, s repo.Snapshot, f manifest.File, key *chunkcrypt.Key, o restoreOptions, opts restore.Options) error {
	mapAs, err := a.mappedName(o.volume)
	if err != nil {
		return err
	}
	where, err := a.identity()
	if err != nil {
		return err
	}
	if o.base != "" {
		base, err := a.openBase(ctx, r, o.base)
		if err != nil {
			return err
		}
		defer func() { _ = base.Close() }() // was only read
		opts.Base = base
	}
	start := a.Now()
	stop := func(bool) {}
	if i, err := volume.Read(o.volume.device); err != nil || o.volume.refill || !i.Header.Holds(f.Csum) { // else there is nothing to follow
		stop = a.follow(a.meter("restore "+f.Archive().ClientName(), ui.Bytes), func() (int64, int64, string) {
			n := opts.Counters.Load()
			return n.Done(), int64(f.Size), amounts(amount{n.Written, "written"}, amount{n.Same.Bytes, "there already"})
		})
	}
	done, err := volume.Fill(ctx, o.volume.device, volume.Source{Repository: where, Snapshot: s, Archive: f.Archive(), Key: key},
		volume.FillOptions{Again: o.volume.refill, Aligned: o.volume.aligned, Restore: opts, Now: a.Now})
	stop(err == nil)
	if err != nil {
		return explainFill(err, o)
	}
	out := volumeRestoreJSON{
		Snapshot: show(s.Name()), Archive: string(f.Archive()), Outcome: outcomeOf(done),
		Seconds: a.Now().Sub(start).Seconds(), Written: done.Restore.Stats.Written, Same: done.Restore.Stats.Same.Bytes, Fetched: done.Restore.Stats.Fetched.Bytes,
	}
	if mapAs != "" {
		m, err := volume.Map(ctx, o.volume.device, mapAs, volume.MapOptions{Prefix: a.volumePrefix(""), Now: a.Now})
		if err != nil {
			return fmt.Errorf("%s holds the image, but is not mapped: %w", o.volume.device, explainVolume(err))
		}
		out.Node, done.Header = m.Node, m.Header
	}
	out.Header = describeVolume(done.Info)
	return a.print(out, func() error { return a.printf("%s", out.text(o.volume.device)) })
}

// volumeRestoreJSON is the outcome of a restore onto a volume.
type volumeRestoreJSON struct {
	Snapshot string     `json:"snapshot"`
	Archive  string     `json:"archive"`
	Outcome  string     `json:"outcome"` // kept, filled, resumed
	Header   headerJSON `json:"header"`
	Node     string     `json:"node,omitempty"`
	Seconds  float64    `json:"elapsed"`
	Fetched  int64      `json:"fetched"`
	Written  int64      `json:"written"`
	Same     int64      `json:"same"`
}

func outcomeOf(done volume.Filled) string {
	switch {
	case done.Kept:
		return "kept"
	case done.Resumed:
		return "resumed"
	}
	return "filled"
}

func (out volumeRestoreJSON) text(device string) string {
	line := fmt.Sprintf("%s holds the image already: kept as it is\n", device)
	if out.Outcome != "kept" {
		line = fmt.Sprintf("%s %s with %s of %s in %s (%s written, %s there already)\n", out.Outcome, device,
			out.Header.Archive, out.Snapshot, ui.Duration(secondsOf(out.Seconds)), ui.Size(out.Written), ui.Size(out.Same))
	}
	if out.Node != "" {
		line += fmt.Sprintf("mapped as %s\n", out.Node)
	}
	return line
}

// explainFill says what a restore that stopped leaves behind.
func explainFill(err error, o restoreOptions) error {
	err = explainVolume(err)
	if i, rerr := volume.Read(o.volume.device); rerr == nil && volumeState(i.Header) == "filling" {
		return fmt.Errorf("%w (the header of %s says that it is not whole; the same command goes on where this one stopped)", err, o.volume.device)
	}
	return err
}
