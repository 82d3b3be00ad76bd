package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/extract"
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
	inPlace   bool
	overwrite bool
	files     extractFlags
	leave     pxarLeaveFlags
}

func newPxarExtractCommand(a *app) *cobra.Command {
	var o pxarExtractOptions
	cmd := &cobra.Command{
		Use:   "extract ARCHIVE [TARGET]",
		Short: "Extract an archive file into a directory",
		Long: `Fills the directory TARGET, or the current one, with what is in the archive, and
makes it if it is missing. Nothing outside of it is touched, whatever the archive
says. What exists already is an error, unless the options allow it; --in-place
makes what exists what the archive is, and writes only what differs. ARCHIVE may
be -, standard input.

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
	f.BoolVar(&o.inPlace, "in-place", false, "write only what differs from an earlier extraction")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace whatever exists, but no directories")
	o.files.add(f)
	for _, name := range []string{"ignore-acls", "ignore-xattrs"} { // the same as --no-acls, --no-xattrs
		_ = f.MarkHidden(name)
	}
	o.leave.add(f)
	return cmd
}

func runPxarExtract(ctx context.Context, a *app, o pxarExtractOptions) error {
	x, err := o.files.options(o.inPlace, o.overwrite)
	if err != nil {
		return err
	}
	x.Skip |= o.leave.metadata()
	x.Problem = a.extractProblems(o.in.archive)
	patterns, err := o.selection()
	switch {
	case err != nil:
		return err
	case o.files.verify && (o.in.archive == "-" || o.in.payload == "-"):
		return hint(usagef("--verify reads the archive twice, and standard input can be read once"), "save the archive to a file")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.strict {
		x.Problem = func(p extract.Problem) { cancel(fmt.Errorf("%s: %w", ui.Path(p.Path), p.Err)) }
	}
	var res extract.Result
	err = a.readPxar("extract", o, patterns, x.Counters, func(src *pxarSource) (err error) {
		if o.prelude != "" {
			if err := writePrelude(o.prelude, src.prelude); err != nil {
				return err
			}
		}
		if res, err = extract.Directory(ctx, src, o.target, x); err == nil && ctx.Err() != nil {
			err = context.Cause(ctx) // the problem came last
		}
		return err
	})
	if err != nil {
		return err
	}
	if patterns != nil && res.Nothing() {
		return hint(fmt.Errorf("nothing in %s matches the patterns", o.in.archive), "'list' shows the paths; patterns are quoted for the shell")
	}
	back, err := a.verifyPxar(ctx, o, patterns, x)
	if err != nil {
		return err
	}
	return a.showPxarExtract(o, &res, back, x.SkipDevices)
}

// readPxar opens the archive for a job that reads it once.
func (a *app) readPxar(verb string, o pxarExtractOptions, patterns *exclude.List, c *extract.Counters, job func(*pxarSource) error) error {
	src, err := a.openPxarSource(o.in, patterns)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // was only read
	whole := src.Source
	src.Source = &without{whole, o.leave.entries()}
	stop := a.follow(a.meter(verb+" "+o.in.archive, ui.Bytes), func() (int64, int64, string) {
		return c.Bytes.Load(), 0, entries(c.Entries.Load())
	})
	err = job(src)
	stop(err == nil)
	a.tellFlaws(whole, o.in.archive)
	if errors.Is(err, pxar.ErrFormat) || errors.Is(err, pxar.ErrNoPayload) {
		return explainPxar(o.in.archive, err)
	}
	return explainExtract(err)
}

// verifyPxar reads back what was extracted, if that is wanted.
func (a *app) verifyPxar(ctx context.Context, o pxarExtractOptions, patterns *exclude.List, x extract.Options) (*extract.Verification, error) {
	if !o.files.verify {
		return nil, nil
	}
	v := extract.VerifyOptions{Skip: x.Skip, IDs: x.IDs, Problem: x.Problem, Counters: new(extract.Counters)}
	var back extract.Verification
	err := a.readPxar("verify", o, patterns, v.Counters, func(src *pxarSource) (err error) {
		back, err = extract.Verify(ctx, src, o.target, v)
		return err
	})
	return &back, err
}

func (a *app) showPxarExtract(o pxarExtractOptions, res *extract.Result, back *extract.Verification, skipDevices bool) error {
	a.tellNotSet(res, o.in.archive)
	line := fmt.Sprintf("extracted %s to %s: %s", o.in.archive, o.target, extractLine(res))
	if back != nil {
		a.tellVerified(back, o.in.archive)
		if back.Explained(res) {
			line += ", read back and compared"
		}
	}
	out := struct {
		Archive string `json:"archive"`
		Target  string `json:"target"`
		extractJSON
	}{o.in.archive, o.target, extractOf(res, back)}
	if err := a.print(out, func() error { return a.printf("%s\n", line) }); err != nil {
		return err
	}
	return extractVerdict(res, back, skipDevices)
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
	return includePatterns(texts)
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
