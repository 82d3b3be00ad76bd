package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/zstd"
	"github.com/spf13/cobra"
)

type fileExtractOptions struct {
	fileRestoreOptions
	target    string
	format    string
	zstd      bool
	overwrite bool
	files     extractFlags
}

func newFileRestoreExtractCommand(a *app) *cobra.Command {
	var o fileExtractOptions
	cmd := &cobra.Command{
		Use:   "extract SNAPSHOT PATH [TARGET]",
		Short: "Fetch a file or a directory out of an archive",
		Long: `Fetches a file, or a directory with all below it. TARGET is a directory (the
default is the current one), a new name for a single file, or - for standard
output; with --format tar, zip or pxar it is a file, or standard output.

To standard output a file goes as it is, and a directory as zip unless --format
says otherwise. A tar and a pxar archive keep owners, modes, times, links, devices
and extended attributes; a zip only what it has room for. --zstd compresses the
stream.

In a directory nothing is written outside of TARGET, and what exists is not
replaced unless it is asked for. Owners, and devices, are for root to make.`,
		Example: `  holdfast file-restore extract vm/100 /drive-scsi0.img/part/1/etc/hosts -
  holdfast file-restore extract vm/100 /drive-scsi0.img/part/1/home/anna ./anna
  holdfast file-restore extract vm/100 /drive-scsi0.img/part/1/etc etc.tar --format tar
  holdfast file-restore extract vm/100 /drive-scsi0.img/part/1/var - --format tar --zstd | tar -t --zstd`,
		Args:              between(2, 3),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot, o.path, o.target = args[0], args[1], "."
			if len(args) > 2 {
				o.target = args[2]
			}
			return runFileExtract(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "plain, tar, zip or pxar")
	a.fileRestoreBool(f, &o.zstd, "zstd", "compress the stream")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace what exists")
	o.files.add(f)
	o.flags(a, cmd)
	complete(cmd, "format", cobra.FixedCompletions([]string{"plain", "tar", "zip", "pxar"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *fileExtractOptions) check() error {
	switch o.format {
	case "", "plain", "tar", "zip", "pxar":
	default:
		return usagef("--format %q is not plain, tar, zip or pxar", o.format)
	}
	if o.zstd && o.target != "-" && (o.format == "" || o.format == "plain") {
		return usagef("--zstd is for streams: name a --format, or - as target")
	}
	return nil
}

// fileExtract is one part of an archive on its way out.
type fileExtract struct {
	*fileRestore
	o      fileExtractOptions
	driver filerestore.Driver
	path   filerestore.Path
	lost   int64 // entries that could not be read
}

func runFileExtract(ctx context.Context, a *app, o fileExtractOptions) error {
	if child := daemon.Inherited(); child != nil {
		return a.serveMachine(ctx, o.fileRestoreOptions, child)
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.target == "-" && ui.IsTerminal(a.Stdout) && o.format != "" && o.format != "plain" {
		return hint(usagef("an archive is not written to a terminal"), "name a file, or send standard output elsewhere")
	}
	x, err := o.files.options(false, o.overwrite)
	if err != nil {
		return err
	}
	return a.withFileRestore(ctx, o.fileRestoreOptions, func(r *fileRestore, p filerestore.Path) error {
		if p.Archive == "" {
			return usagef("%s is the snapshot itself: name an archive, or use 'holdfast restore'", p)
		}
		d, err := r.driver(ctx, p)
		if err != nil {
			return err
		}
		e := &fileExtract{fileRestore: r, o: o, driver: d, path: p}
		part, err := e.part(ctx, filerestore.OpenOptions{})
		r.tell(d)
		if err != nil {
			return err
		}
		single := part.IsFile()
		if err := part.Close(); err != nil {
			return err
		}
		format := o.format
		if format == "" {
			format = "plain"
			if o.target == "-" && !single {
				format = "zip"
			}
		}
		start := a.Now()
		res, err := e.run(ctx, format, single, x)
		if err != nil {
			return explainFiles(ctx, err)
		}
		return e.tell(res, format, a.Now().Sub(start), x)
	})
}

// part opens what is fetched. Entries that cannot be read are told and left out.
func (e *fileExtract) part(ctx context.Context, o filerestore.OpenOptions) (filerestore.Part, error) {
	o.Problem = func(path string, err error) error {
		e.lost++
		e.warn("%s: %v", ui.Path(path), err)
		return nil
	}
	part, err := e.driver.Open(ctx, e.path, o)
	if err != nil {
		return nil, explainFiles(ctx, err)
	}
	return part, nil
}

func (e *fileExtract) run(ctx context.Context, format string, single bool, x extract.Options) (extract.Result, error) {
	switch {
	case format == "plain" && e.o.target == "-":
		return extract.Result{}, e.content(ctx, single)
	case format == "plain":
		return e.directory(ctx, single, x)
	}
	var res extract.Result
	err := e.toStream(func(w io.Writer) (err error) {
		res, err = e.archive(ctx, format, w)
		return err
	})
	return res, err
}

// directory writes files.
func (e *fileExtract) directory(ctx context.Context, single bool, x extract.Options) (res extract.Result, err error) {
	target, o := e.o.target, filerestore.OpenOptions{}
	switch {
	case single:
		target, o.Name = placeOf(target)
	case len(e.path.Names) > 0 && e.o.target == ".": // as others do it: below the current directory
		target = filepath.Join(target, e.path.Base())
	}
	part, err := e.part(ctx, o)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	x.Problem, x.KeepRoot = e.extractProblems(e.path.String()), single
	if single || e.o.target != "." {
		x.Existing |= extract.Dirs
	}
	return extract.Directory(ctx, part, target, x)
}

// content writes the bytes of a single file to standard output.
func (e *fileExtract) content(ctx context.Context, single bool) error {
	if !single {
		return usagef("%s is a directory: --format tar, zip or pxar makes a stream of it", e.path)
	}
	part, err := e.part(ctx, filerestore.OpenOptions{Follow: true})
	if err != nil {
		return err
	}
	defer func() { _ = part.Close() }() // was only read
	return e.toStream(func(w io.Writer) error {
		buf := make([]byte, 1<<20)
		for {
			f, err := part.Next()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case f.Kind == pxar.Directory || f.Kind == pxar.End:
				continue
			case f.Kind != pxar.File:
				return usagef("%s has no content: it is no file", e.path)
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{w}, part, buf) // the writer alone: a file would take small pieces
			if err == nil && n != f.Size {
				err = fmt.Errorf("%s ended after %d bytes of %d", e.path, n, f.Size)
			}
			if err != nil {
				return err
			}
		}
	})
}

// archive writes a tar, a zip or a pxar archive.
func (e *fileExtract) archive(ctx context.Context, format string, w io.Writer) (res extract.Result, err error) {
	o := extract.StreamOptions{Problem: e.extractProblems(e.path.String())}
	if format == "pxar" {
		var open []filerestore.Part
		defer func() {
			for _, p := range open {
				err = errors.Join(err, p.Close())
			}
		}()
		return extract.Pxar(ctx, func() (extract.Source, error) {
			e.lost = 0
			p, err := e.part(ctx, filerestore.OpenOptions{})
			if err == nil {
				open = append(open, p)
			}
			return p, err
		}, w, o)
	}
	part, err := e.part(ctx, filerestore.OpenOptions{Follow: format == "zip", Metadata: format == "tar"})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, part.Close()) }()
	if format == "zip" {
		return extract.Zip(ctx, part, w, o)
	}
	return extract.Tar(ctx, part, w, o)
}

// toStream lets job write to the target, compressed if that is wanted.
func (e *fileExtract) toStream(job func(io.Writer) error) error {
	to, finish := e.Stdout, func() error { return nil }
	if e.o.target != "-" {
		f, err := createFile(e.o.target, e.o.overwrite)
		if err != nil {
			return err
		}
		defer f.Drop()
		to, finish = f, f.Finish
	}
	out := bufio.NewWriterSize(to, 256<<10)
	var w io.Writer = out
	flush := out.Flush
	if e.o.zstd {
		z, err := zstd.NewWriter(out)
		if err != nil {
			return err
		}
		defer z.Drop()
		w, flush = z, func() error { return errors.Join(z.Close(), out.Flush()) }
	}
	err := job(w)
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = finish()
	}
	return err
}

// tell prints what was done, and whether it is all.
func (e *fileExtract) tell(res extract.Result, format string, took time.Duration, x extract.Options) error {
	if e.o.target == "-" && format == "plain" {
		return nil
	}
	for w, m := range res.NotSet {
		if m.Count > 0 && format != "plain" {
			e.warn("%s: %s of %s are left out, first of %s: %v", e.path, filemeta.What(w), entries(m.Count), m.Path, m.Err)
		}
	}
	if format == "plain" {
		e.tellNotSet(&res, e.path.String())
	}
	type out struct {
		Snapshot string  `json:"snapshot"`
		Path     string  `json:"path"`
		Target   string  `json:"target"`
		Format   string  `json:"format"`
		Lost     int64   `json:"unreadable"`
		Seconds  float64 `json:"elapsed"`
		extractJSON
	}
	line := fmt.Sprintf("extracted %s of %s to %s: %s in %s", ui.Path(e.path.String()), show(e.snap.Name()), e.o.target, extractLine(&res), ui.Duration(took))
	if e.o.target == "-" {
		e.say("%s", line)
	} else if err := e.print(out{show(e.snap.Name()), e.path.String(), e.o.target, format, e.lost, took.Seconds(), extractOf(&res, nil)}, func() error {
		return e.printf("%s\n", line)
	}); err != nil {
		return err
	}
	if e.lost > 0 {
		return hint(mark(errSkipped, "%s could not be read, listed above", entries(e.lost)), "the rest is there")
	}
	if format == "plain" {
		return extractVerdict(&res, nil, x.SkipDevices)
	}
	return streamVerdict(&res, format)
}
