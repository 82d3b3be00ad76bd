package cli

import (
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newGuestCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "Back up running virtual machines and restore them",
		Long: `Backs up the disks of a running virtual machine as they all are at one moment,
while the machine runs on, and keeps what is needed to start it again beside
them. The second backup reads only what changed, as QEMU's dirty bitmaps tell.`,
		Example: `  holdfast guest list --qmp /run/qemu/web.sock
  holdfast guest backup web --qmp /run/qemu/web.sock`,
	}
	cmd.AddCommand(newGuestListCommand(a), newGuestBackupCommand(a), newGuestRestoreCommand(a), newGuestCleanupCommand(a))
	return cmd
}

// qmpFlags say how to reach a QEMU, and how to make its disks stand still.
type qmpFlags struct {
	qmp          string
	agent        string
	method       string
	scratchDir   string
	scratchLimit string
	freezeWait   time.Duration
	mustFreeze   bool
	disks, skip  []string
}

// reach adds what every command about a guest needs.
func (o *qmpFlags) reach(f *pflag.FlagSet) {
	f.StringVar(&o.qmp, "qmp", "", "unix socket of QEMU's monitor (QEMU's option -qmp unix:PATH,server=on,wait=off)")
	f.StringVar(&o.agent, "agent", "", "unix socket of the guest agent's port")
}

// hold adds what a backup needs besides.
func (o *qmpFlags) hold(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.method, "method", qemu.Auto.String(), "how the disks are held: filter, job, or auto for the first that QEMU can do")
	f.StringVar(&o.scratchDir, "scratch-dir", "", "where what the guest overwrites meanwhile is kept (default: the system's directory for temporary files)")
	f.StringVar(&o.scratchLimit, "scratch-limit", "", "give the backup up when that takes more bytes, as 20G")
	f.DurationVar(&o.freezeWait, "freeze-timeout", time.Minute, "how long the guest may take to freeze its file systems")
	f.BoolVar(&o.mustFreeze, "require-freeze", false, "fail if the guest's file systems cannot be frozen")
	f.StringArrayVar(&o.disks, "disk", nil, "back up this disk only (repeatable)")
	f.StringArrayVar(&o.skip, "skip-disk", nil, "leave this disk out (repeatable)")
	complete(cmd, "method", cobra.FixedCompletions([]string{"auto", "filter", "job"}, noFiles))
}

// options checks the flags.
func (o qmpFlags) options(a *app) (opts qemu.Options, err error) {
	if o.qmp == "" {
		return opts, hint(usagef("no guest is named"), "pass --qmp SOCKET, or --libvirt URI")
	}
	opts = qemu.Options{
		QMP: o.qmp, Agent: o.agent, FreezeWait: o.freezeWait, MustFreeze: o.mustFreeze,
		ScratchDir: o.scratchDir, Disks: o.disks, Skip: o.skip, Log: a.log(),
	}
	if o.method != "" {
		if opts.Method, err = qemu.ParseMethod(o.method); err != nil {
			return opts, usage(err)
		}
	}
	if o.scratchLimit != "" {
		if opts.ScratchLimit, err = ui.ParseSize(o.scratchLimit); err != nil || opts.ScratchLimit <= 0 {
			return opts, usagef("--scratch-limit: %q is no size: write bytes, as 20G", o.scratchLimit)
		}
	}
	opts.RunDir, err = qemu.RunDir()
	return opts, err
}

// explainGuest adds what to do.
func explainGuest(err error) error {
	switch {
	case errors.Is(err, qmp.ErrSilent):
		return hint(err, "a monitor serves one client; give QEMU a second -qmp socket")
	case errors.Is(err, qemu.ErrBusy):
		return hint(err, "end what uses it, a migration or another backup program, or start QEMU's own server elsewhere")
	case errors.Is(err, qemu.ErrScratch):
		return hint(err, "give it more with --scratch-limit, or back up when the guest writes less")
	}
	return explainBackup(err)
}
