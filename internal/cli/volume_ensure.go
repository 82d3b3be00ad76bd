package cli

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

type volumeEnsureOptions struct {
	digest string
	size   string
	wait   time.Duration
}

func newVolumeEnsureCommand(a *app) *cobra.Command {
	var o volumeEnsureOptions
	cmd := &cobra.Command{
		Use:   "ensure DEVICE --digest DIGEST",
		Short: "Have a header say which image a device is to hold",
		Long: `Compares the header of a device with the digest of an image, and writes a header
of version 1 where it differs. The first word of the answer is

  match     the volume holds the image; nothing was written
  written   it did not, and now the header says so: write the image to the mapped
            volume next

A header of a later version is refused, and nothing is touched; so is a device on
which an image of --size bytes does not fit. A restore that was interrupted does
not match.

This is for programs that write the image themselves: the header says that the
image is there before it is. 'holdfast restore --volume' does both, in the order
that survives a crash.`,
		Example: `  holdfast volume ensure /dev/vg0/vm-100 --digest sha256:6ea8e9... --size 10G`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVolumeEnsure(cmd.Context(), a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.digest, "digest", "", "SHA-256 of the image, 64 hex digits, perhaps with sha256: before them")
	f.StringVar(&o.size, "size", "", "the image's size in bytes, as 34359738368 or 32G: it must fit")
	f.DurationVar(&o.wait, "wait", volume.DefaultWait, "how long to wait for another command that works on the device")
	return cmd
}

func runVolumeEnsure(ctx context.Context, a *app, path string, o volumeEnsureOptions) error {
	d, err := digest.Parse(strings.TrimPrefix(o.digest, "sha256:"))
	if err != nil || d.IsZero() {
		return usagef("--digest: %q is no digest of an image: 64 hex digits are wanted", o.digest)
	}
	var size int64
	if o.size != "" {
		if size, err = ui.ParseSize(o.size); err != nil {
			return usagef("--size: %v", err)
		}
	}
	out, err := volume.Ensure(ctx, path, d, size, volume.Options{Wait: o.wait})
	if err != nil {
		return explainVolume(err)
	}
	return a.print(map[string]any{"device": path, "outcome": out, "digest": d.String()}, func() error {
		if out == volume.Match {
			return a.printf("match: %s holds %s\n", path, d)
		}
		return a.printf("written: %s is to hold %s\n", path, d)
	})
}
