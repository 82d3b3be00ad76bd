package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newNBDCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nbd",
		Short: "Serve disk images over NBD, and look at NBD servers",
		Long: `The Network Block Device protocol carries disks between programs and machines.
Here a snapshot's disk images are served to other programs. 'holdfast map' makes
devices of them; 'holdfast backup' and 'holdfast restore' read from and write
to other programs' exports.`,
		Example: `  holdfast nbd serve vm/100 --socket vm-100.sock
  holdfast nbd list nbd://storage.example`,
	}
	cmd.AddCommand(newNBDServeCommand(a), newNBDListCommand(a))
	return cmd
}

func newNBDListCommand(a *app) *cobra.Command {
	var o nbdFlags
	cmd := &cobra.Command{
		Use:   "list URI",
		Short: "List what an NBD server exports",
		Long: `Asks an NBD server for its exports: their sizes, what they allow, and the
metadata contexts that they have, such as the dirty bitmaps of a running virtual
machine.`,
		Example: `  holdfast nbd list nbd://storage.example
  holdfast nbd list 'nbd+unix:///?socket=/run/vm-100.sock' --output-format json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNBDList(cmd.Context(), a, args[0], o)
		},
	}
	o.add(cmd.Flags())
	return cmd
}

// listedJSON is an export of another server.
type listedJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Size        int64    `json:"size"` // -1: the server does not tell
	Writable    bool     `json:"writable"`
	MultiConn   bool     `json:"multi-conn"`
	BlockSizes  [3]int64 `json:"block-sizes"` // least, preferred, most
	Contexts    []string `json:"contexts"`
}

func runNBDList(ctx context.Context, a *app, uri string, o nbdFlags) error {
	u, err := parseNBD(uri)
	if err != nil {
		return err
	}
	exports, err := nbdclient.List(ctx, u, o.options())
	if err != nil {
		return err
	}
	out := make([]listedJSON, len(exports))
	t := ui.Table{Columns: []ui.Column{
		{Title: "EXPORT"}, {Title: "SIZE", Align: ui.Right}, {Title: "ACCESS"}, {Title: "CONTEXTS"}, {Title: "DESCRIPTION"},
	}}
	for i, e := range exports {
		out[i] = listedJSON{
			Name: e.Name, Description: e.Description, Size: e.Size,
			Writable: e.Flags&nbd.ReadOnly == 0, MultiConn: e.Flags&nbd.CanMultiConn != 0,
			BlockSizes: [3]int64{int64(e.Blocks.Minimum), int64(e.Blocks.Preferred), int64(e.Blocks.Maximum)},
			Contexts:   e.Contexts,
		}
		size, access := ui.Size(e.Size), "read-only"
		if e.Size < 0 {
			size = "?"
		}
		if out[i].Writable {
			access = "writable"
		}
		name := e.Name
		if name == "" {
			name = strconv.Quote("")
		}
		t.Add(name, size, access, strings.Join(e.Contexts, ", "), e.Description)
	}
	return a.print(out, func() error { return a.table(&t) })
}
