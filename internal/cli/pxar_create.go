package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"github.com/holdfast-backup/holdfast/internal/tree"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type pxarCreateOptions struct {
	archive string // "-": standard output
	source  string
	payload string
	walk    walkFlags
	leave   pxarLeaveFlags
	ids     idMapFlags
}

func newPxarCreateCommand(a *app) *cobra.Command {
	var o pxarCreateOptions
	cmd := &cobra.Command{
		Use:   "create ARCHIVE SOURCE",
		Short: "Make an archive file of a directory",
		Long: `Archives the directory SOURCE with all that is below it on the same file system
and all that Linux knows of it. ARCHIVE appears when it is complete, readable for
its owner alone; a file that exists is never replaced. - is standard output.

With --payload-output the archive is split: names and metadata go to ARCHIVE,
usually called .mpxar, and contents of files to that file, called .ppxar.

--exclude and files called .pxarexclude leave things out. Files that vanish or
cannot be read are listed, and the exit code is 3.`,
		Example: `  holdfast pxar create home.pxar /home/anna --exclude '*.iso'
  holdfast pxar create root.mpxar / --payload-output root.ppxar
  holdfast pxar create - /srv | ssh host holdfast pxar extract - /srv
  holdfast pxar create 101.pxar /var/lib/lxc/101/rootfs --id-map-from /var/lib/lxc/101/config`,
		Args: exactly(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.archive, o.source = args[0], args[1]
			return runPxarCreate(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.payload, "payload-output", "", "split the archive, and write the contents of files to this file")
	o.walk.add(f)
	o.leave.add(f)
	o.ids.add(f)
	complete(cmd, "payload-output", filesEndingIn("ppxar"))
	return cmd
}

// pxarLeaveFlags say what is not archived or not extracted.
type pxarLeaveFlags struct {
	xattrs, fcaps, acls, devices, fifos, sockets bool
}

func (o *pxarLeaveFlags) add(f flagSet) {
	f.BoolVar(&o.xattrs, "no-xattrs", false, "leave out extended attributes")
	f.BoolVar(&o.fcaps, "no-fcaps", false, "leave out file capabilities")
	f.BoolVar(&o.acls, "no-acls", false, "leave out ACLs")
	f.BoolVar(&o.devices, "no-device-nodes", false, "leave out devices")
	f.BoolVar(&o.fifos, "no-fifos", false, "leave out FIFOs")
	f.BoolVar(&o.sockets, "no-sockets", false, "leave out sockets")
}

func (o pxarLeaveFlags) metadata() (kinds filemeta.Set) {
	for kind, leave := range map[filemeta.What]bool{filemeta.Xattrs: o.xattrs, filemeta.FCaps: o.fcaps, filemeta.ACLs: o.acls} {
		if leave {
			kinds |= filemeta.SetOf(kind)
		}
	}
	return kinds
}

func (o pxarLeaveFlags) entries() (kinds []pxar.Kind) {
	if o.devices {
		kinds = append(kinds, pxar.CharDevice, pxar.BlockDevice)
	}
	if o.fifos {
		kinds = append(kinds, pxar.FIFO)
	}
	if o.sockets {
		kinds = append(kinds, pxar.Socket)
	}
	return kinds
}

func runPxarCreate(ctx context.Context, a *app, o pxarCreateOptions) error {
	opts, err := o.walk.options()
	if err != nil {
		return err
	}
	if opts.IDs, err = o.ids.load(); err != nil {
		return err
	}
	opts.LeaveOut, opts.LeaveOutKinds = o.leave.metadata(), o.leave.entries()
	out, err := a.createPxar(o)
	if err != nil {
		return err
	}
	defer out.drop()
	opts.Outputs = out.files()
	opts.Problem, opts.Counters = a.treeProblems(o.archive), new(tree.Counters)
	m := a.meter("create "+o.archive, ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		return opts.Counters.Bytes.Load(), 0, plural(opts.Counters.Entries.Load(), "entry")
	})
	rep, err := tree.Archive(ctx, o.source, out.streams(), opts)
	if err == nil {
		err = out.finish()
	}
	stop(err == nil)
	if err != nil {
		return explainTree(pathError(err))
	}
	return a.showPxarCreate(o, rep)
}

// pxarOutput is an archive file, or a pair of them, that is being made.
type pxarOutput struct {
	stdout  io.Writer        // the archive goes there; else
	meta    *fileops.NewFile // there
	payload *fileops.NewFile // nil: not split
}

func (a *app) createPxar(o pxarCreateOptions) (out *pxarOutput, err error) {
	out = new(pxarOutput)
	switch {
	case o.payload == "-":
		return nil, usagef("--payload-output needs a file")
	case o.payload != "" && o.payload == o.archive:
		return nil, usagef("archive and payload cannot be the same file")
	case strings.HasSuffix(o.archive, ".mpxar") && o.payload == "":
		return nil, usagef("%s is the name of a split archive: name the file for the contents with --payload-output, or end it in .pxar", o.archive)
	case o.archive != "-":
		out.meta, err = newPxarFile(o.archive)
	case ui.IsTerminal(a.Stdout):
		return nil, hint(usagef("an archive is not written to a terminal"), "name a file, or send standard output elsewhere")
	default:
		out.stdout = a.Stdout
	}
	if err == nil && o.payload != "" {
		out.payload, err = newPxarFile(o.payload)
	}
	if err != nil {
		out.drop()
		return nil, err
	}
	return out, nil
}

func newPxarFile(path string) (*fileops.NewFile, error) {
	f, err := fileops.Create(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, hint(fmt.Errorf("%s exists and is left alone", path), "name another file, or remove it first")
	case err != nil:
		return nil, pathError(err)
	}
	return f, nil
}

func (out *pxarOutput) streams() (t tree.Output) {
	t.Meta = out.stdout
	if out.meta != nil {
		t.Meta = out.meta
	}
	if out.payload != nil {
		t.Payload = payloadFile{out.payload}
	}
	return t
}

// files are those that would be archived if they lay in the source.
func (out *pxarOutput) files() (all []*os.File) {
	for _, f := range []*fileops.NewFile{out.meta, out.payload} {
		if f != nil {
			all = append(all, f.File)
		}
	}
	if f, ok := out.stdout.(*os.File); ok {
		all = append(all, f)
	}
	return all
}

// finish gives the files their names, contents first: what has the name of an
// archive can be opened.
func (out *pxarOutput) finish() error {
	for _, f := range []*fileops.NewFile{out.payload, out.meta} {
		if f == nil {
			continue
		}
		if err := f.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// drop removes what has no name yet.
func (out *pxarOutput) drop() {
	for _, f := range []*fileops.NewFile{out.meta, out.payload} {
		if f != nil {
			f.Drop()
		}
	}
}

// payloadFile is the payload stream of a split archive, in a file.
type payloadFile struct{ io.Writer }

// Hint implements [tree.Payload]: nothing is cut here.
func (payloadFile) Hint(int64) {}

// Reuse implements [tree.Payload].
func (payloadFile) Reuse(int64, []tree.Chunk) error {
	return errors.New("internal error: contents are taken over from no archive")
}

func (a *app) showPxarCreate(o pxarCreateOptions, rep tree.Report) error {
	line := treeLine(o.archive, &rep) + ", " + ui.Size(rep.Bytes)
	if o.archive == "-" { // standard output is the archive
		a.say("%s", line)
	} else if err := a.print(treeOf(&rep), func() error { return a.printf("%s\n", line) }); err != nil {
		return err
	}
	if rep.Problems > 0 {
		return hint(
			mark(errSkipped, "%s, listed above", plural(rep.Problems, "problem")),
			"the rest is in the archive; exclude what need not be there",
		)
	}
	return nil
}
