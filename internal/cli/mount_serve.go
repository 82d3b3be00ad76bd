package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/mount"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

// mountable is an archive that is to be mounted, wherever it comes from.
type mountable struct {
	archive *pxar.Archive
	source  string                                      // what mount tables show
	links   func(context.Context) (*mount.Links, error) // nil: not counted
}

// mountFlags are those of all commands that mount.
type mountFlags struct {
	foreground bool
	allowOther choice
	countLinks choice
	ids        idMapFlags
}

// choice is a flag whose default follows from other things.
type choice struct{ value, given bool }

func (c choice) or(otherwise bool) bool {
	if c.given {
		return c.value
	}
	return otherwise
}

func (o *mountFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.foreground, "foreground", false, "stay in the foreground until interrupted")
	f.BoolVar(&o.foreground, "verbose", false, "the same, as the existing client calls it")
	_ = f.MarkHidden("verbose") // it exists
	f.BoolVar(&o.allowOther.value, "allow-other", false, "let other users use it too (if root mounts it they may, unless this is false)")
	f.BoolVar(&o.countLinks.value, "count-links", false, "show true numbers of links, whatever has to be read for that (true where it is little, unless this is false)")
	o.ids.add(f)
}

// look sees which flags were given.
func (o *mountFlags) look(cmd *cobra.Command) {
	o.allowOther.given = cmd.Flags().Changed("allow-other")
	o.countLinks.given = cmd.Flags().Changed("count-links")
}

// options are those of the package, made of the flags.
func (a *app) mountOptions(ctx context.Context, x mountable, o mountFlags) (mount.Options, error) {
	opts := mount.Options{Source: x.source, AllowOther: o.allowOther.or(os.Geteuid() == 0), Log: a.log()}
	ids, err := o.ids.load()
	if err != nil {
		return opts, err
	}
	if ids != nil {
		opts.Users, opts.Groups = ids.Users().ToHost, ids.Groups().ToHost
	}
	if x.links == nil {
		return opts, nil
	}
	opts.Links, err = x.links(ctx)
	switch {
	case ctx.Err() != nil:
		return opts, context.Cause(ctx)
	case err != nil:
		a.warn("every file is shown with two links: %v", err)
		opts.Links = nil
	}
	return opts, nil
}

// serveMount mounts an archive on dir, says so, and serves until it is unmounted
// or ctx ends. child, if there is one, goes to the background.
func (a *app) serveMount(ctx context.Context, child *daemon.Child, dir string, x mountable, o mountFlags) (err error) {
	cleared, err := mount.Clear(ctx, dir)
	if err != nil {
		return err
	}
	if cleared {
		a.say("cleared away what was left on %s by a process that had died", dir)
	}
	opts, err := a.mountOptions(ctx, x, o)
	if err != nil {
		return err
	}
	m, err := mount.New(dir, x.archive, opts)
	if err != nil {
		return explainMount(err)
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	shown := mountJSON{Path: m.Dir(), Source: x.source}
	if err := a.print(shown, func() error { return a.printf("Archive '%s' mounted on %s\n", x.source, m.Dir()) }); err != nil {
		return err
	}
	if child != nil {
		done, err := a.toBackground(child, fmt.Sprintf("mount-%d", os.Getpid()))
		if err != nil {
			return err
		}
		defer done()
	}
	if err := daemon.NotifyReady(x.source + " mounted on " + m.Dir()); err != nil {
		a.warn("%v", err)
	}
	select {
	case <-m.Done():
		return nil
	case <-ctx.Done():
	}
	if err := daemon.NotifyStopping(); err != nil {
		a.warn("%v", err)
	}
	return a.stopMount(context.WithoutCancel(ctx), m)
}

// stopMount unmounts. From who uses the file system it is not taken away: it
// ends when they do. Who interrupts again ends the process, and so all of it.
func (a *app) stopMount(ctx context.Context, m *mount.Mount) error {
	err := m.Unmount(ctx)
	if !errors.Is(err, fusemount.ErrBusy) {
		return err
	}
	if err := m.Detach(ctx); err != nil {
		return err
	}
	a.warn("%s is in use: it is unmounted, and its users have it until they end, or until this is interrupted again", m.Dir())
	<-m.Done()
	return nil
}

// explainMount adds what to do.
func explainMount(err error) error {
	if already, ok := errors.AsType[*mount.MountedError](err); ok {
		return hint(mark(repo.ErrLocked, "%v", err), "'holdfast unmount %s' ends it", already.At.Path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && os.Geteuid() != 0:
		return hint(err, "make the directory; users other than root also need fusermount3, of the package fuse3")
	case errors.Is(err, fs.ErrNotExist):
		return hint(err, "make the directory")
	}
	return err
}

// mountJSON is a mounted archive as --output-format json shows it.
type mountJSON struct {
	Path   string `json:"path"`
	Source string `json:"source,omitempty"`
	Dead   bool   `json:"dead,omitempty"` // its process is gone
}

func runMountList(a *app) error {
	list, err := mount.List()
	if err != nil {
		return err
	}
	shown := []mountJSON{}
	for _, m := range list {
		shown = append(shown, mountJSON{m.Path, m.Source, fusemount.Dead(m.Path)})
	}
	return a.print(shown, func() error {
		for _, m := range shown {
			state := ""
			if m.Dead {
				state = " (its process is gone)"
			}
			if err := a.printf("%s on %s%s\n", m.Source, m.Path, state); err != nil {
				return err
			}
		}
		if len(shown) == 0 {
			return a.printf("Nothing mounted.\n")
		}
		return nil
	})
}
