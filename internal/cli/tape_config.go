package cli

import (
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// tapeThing is a kind of section that commands create, change and remove.
type tapeThing struct {
	kind    config.Kind
	word    string   // "drive"
	article string   // "a drive"
	about   string   // what it is, one or more sentences
	create  string   // example of the arguments of create
	update  string   // and of update
	columns []string // of list: keys of its properties
}

// newTapeConfigCommands are list, config, create, update and remove.
func newTapeConfigCommands(a *app, o *tapeOptions, t tapeThing) []*cobra.Command {
	line := "  holdfast tape " + t.word + " "
	return []*cobra.Command{
		newTapeCreateCommand(a, o, t), newTapeUpdateCommand(a, o, t),
		{
			Use: "list", Short: "List what is configured", Long: "Lists each " + t.word + " of the configuration.",
			Example: line + "list", Args: exactly(0),
			RunE: func(*cobra.Command, []string) error { return runTapeConfigList(a, o, t) },
		},
		{
			Use: "config NAME", Aliases: []string{"show"}, Short: "Show one with all properties", Long: "Shows all that is set for " + t.article + ".",
			Example: line + "config " + firstWord(t.create), Args: exactly(1),
			RunE: func(_ *cobra.Command, args []string) error { return runTapeConfigShow(a, o, t, args[0]) },
		},
		{
			Use: "remove NAME", Short: "Remove one from the configuration",
			Long:    "Removes " + t.article + " from the configuration. One that is named elsewhere stays.",
			Example: line + "remove " + firstWord(t.create), Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := o.configured(a, false)
				if err != nil {
					return err
				}
				kind, err := kindOf(c, t, args[0])
				if err != nil {
					return tapeError(err)
				}
				return tapeError(c.Remove(cmd.Context(), kind, args[0], ""))
			},
		},
	}
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

// kindOf is the kind of a section: drives have two.
func kindOf(c config.Config, t tapeThing, name string) (config.Kind, error) {
	if t.kind != config.LTO {
		return t.kind, nil
	}
	d, err := c.Drive(name)
	if err == nil && d.Virtual {
		return config.Virtual, nil
	}
	return t.kind, err
}

func newTapeCreateCommand(a *app, o *tapeOptions, t tapeThing) *cobra.Command {
	var virtual bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Add one to the configuration", Long: t.about,
		Example: "  holdfast tape " + t.word + " create " + t.create, Args: exactly(1),
	}
	props := config.Properties(t.kind)
	if t.kind == config.LTO {
		cmd.Flags().BoolVar(&virtual, "virtual", false, "the path is a directory that is drive and changer at once, as PBS has them for tests")
		props = append(props, only(config.Properties(config.Virtual), "max-size")...)
	}
	values := propertyFlags(cmd, props)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := o.configured(a, true)
		if err != nil {
			return err
		}
		kind := t.kind
		if virtual {
			kind = config.Virtual
			if err := makeDirOf(values()); err != nil {
				return err
			}
		}
		return tapeError(c.Create(cmd.Context(), kind, args[0], values()))
	}
	return cmd
}

// makeDirOf makes the directory that a virtual drive is.
func makeDirOf(v property.Values) error {
	if len(v["path"]) != 1 {
		return nil // told by who checks the values
	}
	return os.MkdirAll(v["path"][0], 0o700)
}

// only are the properties with some keys.
func only(props []property.Property, keys ...string) (list []property.Property) {
	for _, p := range props {
		for _, k := range keys {
			if p.Key == k {
				list = append(list, p)
			}
		}
	}
	return list
}

func newTapeUpdateCommand(a *app, o *tapeOptions, t tapeThing) *cobra.Command {
	var remove []string
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change what is set for one",
		Long:    "Changes the properties that are given, and leaves the others as they are.",
		Example: "  holdfast tape " + t.word + " update " + t.update, Args: exactly(1),
	}
	props := config.Properties(t.kind)
	if t.kind == config.LTO {
		props = append(props, only(config.Properties(config.Virtual), "max-size")...)
	}
	values := propertyFlags(cmd, props)
	cmd.Flags().StringSliceVar(&remove, "delete", nil, "properties that are removed, separated by commas")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v := values()
		for _, key := range remove {
			v[key] = nil
		}
		if len(v) == 0 {
			return usagef("nothing to change: name properties, or --delete")
		}
		c, err := o.configured(a, false)
		if err != nil {
			return err
		}
		kind, err := kindOf(c, t, args[0])
		if err != nil {
			return tapeError(err)
		}
		return tapeError(c.Update(cmd.Context(), kind, args[0], "", v))
	}
	return cmd
}

// sections are those of a thing.
func sections(c config.Config, t tapeThing) ([]*sectionconfig.Section, error) {
	list, _, err := c.Sections(t.kind)
	if err != nil || t.kind != config.LTO {
		return list, err
	}
	virtual, _, err := c.Sections(config.Virtual)
	return append(list, virtual...), err
}

// sectionItem is a section as it is in JSON.
func sectionItem(t tapeThing, sec *sectionconfig.Section) map[string]any {
	props := config.Properties(t.kind)
	if t.kind == config.LTO {
		props = append(props, only(config.Properties(config.Virtual), "max-size")...)
	}
	item := property.Item(sec, props)
	key := "name"
	if t.kind == config.Job {
		key = "id"
	}
	item[key] = sec.ID
	return item
}

func runTapeConfigList(a *app, o *tapeOptions, t tapeThing) error {
	c, err := o.configured(a, false)
	if err != nil {
		return err
	}
	list, err := sections(c, t)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	table := ui.Table{Columns: []ui.Column{{Title: "NAME"}}}
	for _, k := range t.columns {
		table.Columns = append(table.Columns, ui.Column{Title: strings.ToUpper(k)})
	}
	for _, sec := range list {
		out = append(out, sectionItem(t, sec))
		row := []string{sec.ID}
		for _, k := range t.columns {
			row = append(row, strings.Join(sec.All(k), ", "))
		}
		table.Add(row...)
	}
	return a.print(out, func() error { return a.table(&table) })
}

func runTapeConfigShow(a *app, o *tapeOptions, t tapeThing, name string) error {
	c, err := o.configured(a, false)
	if err != nil {
		return err
	}
	kind, err := kindOf(c, t, name)
	if err != nil {
		return tapeError(err)
	}
	sec, _, err := c.Section(kind, name)
	if err != nil {
		return tapeError(err)
	}
	return a.print(sectionItem(t, sec), func() error {
		for _, p := range sec.Props {
			if err := a.printf("%-20s %s\n", p.Key, p.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

func newTapeDriveCommand(a *app, o *tapeOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drive", Short: "Drives: what is connected, and what is configured",
		Long: `A drive has a name and the path of its device: /dev/tape/by-id/scsi-SERIAL-sg, any
other generic node, or serial:SERIAL, which is found wherever it is. A virtual
library's drives are DIR/drive0 and so on.`,
		Example: `  holdfast tape drive scan
  holdfast tape drive create drive0 --path serial:10WT012345 --changer lib0`,
	}
	cmd.AddCommand(newTapeScanCommand(a, scsi.TypeTape, "drive"))
	cmd.AddCommand(newTapeConfigCommands(a, o, tapeThing{
		kind: config.LTO, word: "drive", article: "a drive",
		about: `Gives a drive a name. With --changer it is one of a changer, which has it under
the number --changer-drivenum.`,
		create:  "drive0 --path serial:10WT012345 --changer lib0",
		update:  "drive0 --changer-drivenum 1",
		columns: []string{"path", "changer", "changer-drivenum"},
	})...)
	return cmd
}

func newTapePoolCommand(a *app, o *tapeOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pool", Short: "Pools of media, and how long their data is kept",
		Long: `A pool is media that are written in turn. Its allocation says when a backup
begins a new media set: continue (never by itself), always, or a calendar event
such as 'mon 00:00'. Its retention says when full media may be overwritten: keep
(never), overwrite (when they are needed), or a span of time such as '30 days',
which begins when the set is not written any more.`,
		Example: `  holdfast tape pool create daily --allocation "mon 00:00" --retention "4 weeks"
  holdfast tape pool list`,
	}
	cmd.AddCommand(newTapeConfigCommands(a, o, tapeThing{
		kind: config.Pool, word: "pool", article: "a pool",
		about: `Makes a pool. With --encrypt new media sets are encrypted by the drive, with the
key that has this fingerprint ('holdfast tape key list').`,
		create:  `daily --allocation "mon 00:00" --retention "4 weeks"`,
		update:  "daily --retention overwrite",
		columns: []string{"allocation", "retention", "template", "encrypt", "comment"},
	})...)
	return cmd
}

// newTapeScanCommand lists devices that are connected.
func newTapeScanCommand(a *app, kind scsi.DeviceType, word string) *cobra.Command {
	return &cobra.Command{
		Use: "scan", Short: "List devices that are connected",
		Long:    "Lists each " + word + " that is connected to this machine, configured or not.",
		Example: "  holdfast tape " + word + " scan", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return runTapeScan(a, kind) },
	}
}

// foundJSON is a device, with the fields of the calls of PBS.
type foundJSON struct {
	Kind   string `json:"kind"`
	Path   string `json:"path"`
	Model  string `json:"model"`
	Serial string `json:"serial"`
	Vendor string `json:"vendor"`
}

func runTapeScan(a *app, kinds ...scsi.DeviceType) error {
	found, err := scsi.Discover(os.DirFS("/sys"), os.DirFS("/dev"))
	if err != nil {
		return err
	}
	out := []foundJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "PATH"}, {Title: "KIND"}, {Title: "VENDOR"}, {Title: "MODEL"}, {Title: "SERIAL"}}}
	for _, f := range found {
		for _, k := range kinds {
			if f.Type != k {
				continue
			}
			one := foundJSON{Kind: k.String(), Path: f.Generic, Model: f.Product, Serial: f.Serial, Vendor: f.Vendor}
			if len(f.Links) > 0 {
				one.Path = f.Links[0]
			}
			out = append(out, one)
			t.Add(one.Path, one.Kind, one.Vendor, one.Model, one.Serial)
		}
	}
	return a.print(out, func() error { return a.table(&t) })
}
