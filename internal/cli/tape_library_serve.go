package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/tcmu"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/share"
	"github.com/spf13/cobra"
)

type tapeLibraryServeOptions struct {
	devices string
	faults  []string
}

func newTapeLibraryServeCommand(a *app) *cobra.Command {
	var o tapeLibraryServeOptions
	cmd := &cobra.Command{
		Use:   "serve DIRECTORY",
		Short: "Let several processes use a virtual tape library",
		Long: `Serves the drives and the changer of a virtual tape library until it is
interrupted, at sockets of their names in its directory. Its owner and his group
can use them at the same time.

With --devices NAME they are also devices of this machine, /dev/sgN and
with the kernel's drivers /dev/nstN and /dev/schN, under which mt, mtx and other
backup programs find them. That needs root and the kernel's modules
target_core_user and tcm_loop, which are loaded.

With --fault drives fail on purpose, for tests. Its value is the name of a unit
and a rule: 'drive0 op=0a n=100 sense=3/0c/00' lets the hundredth WRITE fail
with a write error. The words are op (opcodes, hexadecimal), n, times, sense
(key/code/ qualifier), status, lost, timeout, twice and done.`,
		Example: `  holdfast tape library serve /srv/vtl
  holdfast tape library serve /srv/vtl --devices vtl`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTapeLibraryServe(cmd.Context(), a, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.devices, "devices", "", "make devices of them too; the name tells this library from others")
	f.StringArrayVar(&o.faults, "fault", nil, "let commands fail on purpose; can be given several times")
	return cmd
}

// faultRules reads --fault: rules by the units that they are for.
func (o tapeLibraryServeOptions) faultRules() (map[string][]*fault.Rule, error) {
	rules := map[string][]*fault.Rule{}
	for _, text := range o.faults {
		unit, rule, _ := strings.Cut(text, " ")
		r, err := fault.Parse(rule)
		if err != nil {
			return nil, usage(err)
		}
		rules[unit] = append(rules[unit], r)
	}
	return rules, nil
}

// servedJSON is a unit as --output-format json shows it.
type servedJSON struct {
	Name    string   `json:"name"`
	Serial  string   `json:"serial"`
	Socket  string   `json:"socket"`
	Devices []string `json:"devices,omitempty"`
}

func runTapeLibraryServe(ctx context.Context, a *app, dir string, o tapeLibraryServeOptions) (err error) {
	rules, err := o.faultRules()
	if err != nil {
		return err
	}
	l, err := vtl.Open(dir, vtl.Options{Wrap: func(u vtl.Unit) target.Unit {
		if rules[u.Name] == nil {
			return u.Unit
		}
		return fault.New(u.Unit, rules[u.Name]...)
	}})
	if err != nil {
		return explainLibrary(err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := share.Listen(dir, l)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	end := make(chan error, 1)
	go func() { end <- s.Serve(serving, func(err error) { a.warn("%v", err) }) }()
	defer func() {
		stop()
		err = errors.Join(err, <-end)
	}()

	at, served, err := attachLibrary(ctx, l, dir, o.devices)
	if err != nil {
		return err
	}
	broken := make(chan error, 1)
	if at != nil {
		defer func() { err = errors.Join(err, at.Close()) }()
		go func() { broken <- at.Wait(ctx) }()
	}
	err = a.print(map[string]any{"units": served}, func() error {
		for _, u := range served {
			if err := a.printf("%s\n", strings.Join(append([]string{u.Socket}, u.Devices...), " ")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := daemon.NotifyReady("serving " + dir); err != nil {
		a.warn("%v", err)
	}
	select {
	case <-ctx.Done(): // that is how it ends
	case err = <-broken:
	case err = <-end:
		end <- nil
	}
	return err
}

// attachLibrary makes devices of the units where a name is given, and lists all.
func attachLibrary(ctx context.Context, l *vtl.Library, dir, name string) (at *tcmu.Attached, served []servedJSON, err error) {
	var units []target.Unit
	for _, u := range l.Units() {
		units = append(units, u.Unit)
		served = append(served, servedJSON{Name: u.Name, Serial: u.Serial, Socket: filepath.Join(dir, u.Name)})
	}
	if name == "" {
		return nil, served, nil
	}
	// What a server left that was killed is taken away; one that lives is an error.
	if err := tcmu.Prepare(ctx); err != nil {
		return nil, nil, err
	}
	if err := tcmu.Remove(name); err != nil {
		return nil, nil, err
	}
	if at, err = tcmu.Attach(name, units); err != nil {
		return nil, nil, err
	}
	nodes, err := at.Nodes()
	if err != nil {
		return nil, nil, errors.Join(err, at.Close())
	}
	for i, n := range nodes {
		served[i].Devices = append([]string{n.Generic}, n.Kernel...)
	}
	return at, served, nil
}
