package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type pxarExtractOptions struct {
	in        pxarInput
	target    string
	patterns  []string
	filesFrom string
	prelude   string
	strict    bool
	noOwners  bool
	existing  pxarExistingFlags
	leave     pxarLeaveFlags
	ids       idMapFlags
}

func newPxarExtractCommand(a *app) *cobra.Command {
	var o pxarExtractOptions
	cmd := &cobra.Command{
		Use:   "extract ARCHIVE [TARGET]",
		Short: "Extract an archive file into a directory",
		Long: `Fills the directory TARGET, or the current one, with what is in the archive, and
makes it if it is missing. Nothing outside of it is touched, whatever the archive
says. What exists already is an error, unless the options allow it. ARCHIVE may be
-, standard input.

--pattern and --files-from take out a part: what matches, with all below it. The
patterns are those of 'pxar create --exclude'; the archive must be a file then.

All metadata is set. What cannot be, as owners by a user other than root, is
counted and told, and the exit code is 3; so are entries that cannot be made,
unless --strict stops at the first one.`,
		Example: `  holdfast pxar extract home.pxar /home/anna
  holdfast pxar extract home.pxar . --pattern '/docs/*.txt' --allow-existing-dirs
  holdfast pxar extract root.mpxar /mnt --payload-input root.ppxar
  holdfast pxar extract 101.pxar /var/lib/lxc/102/rootfs --id-map-from /var/lib/lxc/102/config`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in.archive, o.target = args[0], "."
			if len(args) == 2 {
				o.target = args[1]
			}
			return runPxarExtract(cmd.Context(), a, o)
		},
	}
	o.in.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&o.patterns, "pattern", nil, "extract only what matches this pattern (repeatable)")
	f.StringVar(&o.filesFrom, "files-from", "", "a file with further patterns, one a line")
	f.StringVar(&o.prelude, "prelude-target", "", "write the prelude of a split archive to this file")
	f.BoolVar(&o.strict, "strict", false, "stop at the first entry that cannot be made")
	f.BoolVar(&o.noOwners, "ignore-ownership", false, "leave owners as they are for new files")
	o.existing.add(f)
	o.leave.add(f)
	o.ids.add(f)
	return cmd
}

func runPxarExtract(ctx context.Context, a *app, o pxarExtractOptions) error {
	opts := extract.Options{
		Existing: o.existing.existing(), Skip: o.leave.metadata(),
		Problem: a.pxarProblems(), Counters: new(extract.Counters),
	}
	if o.noOwners {
		opts.Skip |= filemeta.SetOf(filemeta.Owner)
	}
	var err error
	if opts.IDs, err = o.ids.load(); err != nil {
		return err
	}
	patterns, err := o.selection()
	if err != nil {
		return err
	}
	src, err := a.openPxarSource(o.in, patterns)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // was only read
	if o.prelude != "" {
		if err := writePrelude(o.prelude, src.prelude); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.strict {
		opts.Problem = func(p extract.Problem) { cancel(fmt.Errorf("%s: %w", ui.Path(p.Path), p.Err)) }
	}
	m := a.meter("extract "+o.in.archive, ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		return opts.Counters.Bytes.Load(), 0, plural(opts.Counters.Entries.Load(), "entry")
	})
	res, err := extract.Directory(ctx, &without{src.Source, o.leave.entries()}, o.target, opts)
	if err == nil && ctx.Err() != nil { // the problem came last
		err = context.Cause(ctx)
	}
	stop(err == nil)
	if err != nil {
		return explainPxarExtract(o.in.archive, err)
	}
	if patterns != nil && res.Asked.Entries() <= 1 { // the root
		return hint(fmt.Errorf("nothing in %s matches the patterns", o.in.archive), "'list' shows the paths; patterns are quoted for the shell")
	}
	a.warnPxarNotSet(&res)
	if err := a.print(pxarExtractOf(o.target, &res), func() error { return a.printf("%s\n", pxarExtractLine(o.target, &res)) }); err != nil {
		return err
	}
	return pxarVerdict(&res)
}

// selection are the patterns of the flags, nil for everything.
func (o *pxarExtractOptions) selection() (*exclude.List, error) {
	texts := slices.Clone(o.patterns)
	if o.filesFrom != "" {
		b, err := readSmall(o.filesFrom, 16<<20)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				texts = append(texts, line)
			}
		}
		if len(texts) == 0 {
			return nil, fmt.Errorf("%s holds no pattern", o.filesFrom)
		}
	}
	var patterns []exclude.Pattern
	for _, text := range texts {
		p, err := exclude.Parse(text, exclude.Include)
		if err != nil {
			return nil, usage(fmt.Errorf("--pattern: %w", err))
		}
		patterns = append(patterns, p)
	}
	if patterns == nil {
		return nil, nil
	}
	return exclude.NewList(patterns), nil
}

// pxarSource is an archive, or the part of it that patterns select.
type pxarSource struct {
	extract.Source
	opened
	prelude []byte
}

func (a *app) openPxarSource(in pxarInput, patterns *exclude.List) (*pxarSource, error) {
	if patterns == nil {
		s, err := a.openPxar(in)
		if err != nil {
			return nil, err
		}
		return &pxarSource{s.Reader, s.opened, s.Prelude()}, nil
	}
	f, err := openPxarFile(in)
	if err != nil {
		return nil, err
	}
	w, err := extract.Walk(f.Archive, extract.Selection{Patterns: patterns})
	if err != nil {
		_ = f.Close()
		return nil, explainPxar(in.archive, err)
	}
	return &pxarSource{w, f.opened, f.Prelude()}, nil
}

// without leaves out kinds of entries.
type without struct {
	extract.Source
	kinds []pxar.Kind
}

// Next implements [extract.Source].
func (w *without) Next() (*pxar.Entry, error) {
	for {
		e, err := w.Source.Next()
		if err != nil || !slices.Contains(w.kinds, e.Kind) {
			return e, err
		}
	}
}

func writePrelude(path string, prelude []byte) error {
	if prelude == nil {
		return errors.New("the archive has no prelude")
	}
	f, err := newPxarFile(path)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(prelude); err != nil {
		return err
	}
	return f.Finish()
}

// explainPxarExtract adds what to do.
func explainPxarExtract(archive string, err error) error {
	if errors.Is(err, extract.ErrExists) {
		return hint(err, "--allow-existing-dirs enters directories, --overwrite replaces everything else")
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err
	}
	if errors.Is(err, pxar.ErrFormat) || errors.Is(err, pxar.ErrNoPayload) {
		return explainPxar(archive, err)
	}
	return err
}
