package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
)

// stream restores to a tar, a zip or a pxar archive.
func (t *treeRestore) stream(ctx context.Context, format string) error {
	if err := t.savePrelude(ctx); err != nil {
		return err
	}
	o := extract.StreamOptions{Problem: t.extractProblems(t.name()), Counters: new(extract.Counters)}
	write := t.Stdout
	finish := func() error { return nil }
	if t.o.target != "-" {
		f, err := createFile(t.o.target, t.o.overwrite)
		if err != nil {
			return err
		}
		defer f.Drop()
		write, finish = f, f.Finish
	}
	start := t.Now()
	var res extract.Result
	err := t.watch("restore", o.Counters, func() (err error) {
		out := bufio.NewWriterSize(write, 256<<10)
		if res, err = t.write(ctx, format, out, o); err != nil {
			return err
		}
		if t.part.Patterns != nil && res.Nothing() {
			return t.nothing()
		}
		if err = out.Flush(); err == nil {
			err = finish()
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", t.o.target, err)
		}
		return nil
	})
	if err != nil {
		return t.explain(err)
	}
	for w, m := range res.NotSet {
		if m.Count > 0 {
			t.warn("%s: %s of %s are left out, first of %s: %v", t.name(), filemeta.What(w), entries(m.Count), m.Path, m.Err)
		}
	}
	if err := t.show(&res, nil, format, t.Now().Sub(start)); err != nil {
		return err
	}
	return streamVerdict(&res, format)
}

func (t *treeRestore) write(ctx context.Context, format string, w io.Writer, o extract.StreamOptions) (extract.Result, error) {
	part := t.part
	switch format {
	case "pxar":
		return extract.Pxar(ctx, t.twice(ctx), w, o)
	case "tar":
		part.Metadata = true
	default:
		part.Follow = true
	}
	src, err := t.atRandom(ctx, part)
	if err != nil {
		return extract.Result{}, err
	}
	if format == "tar" {
		return extract.Tar(ctx, src, w, o)
	}
	return extract.Zip(ctx, src, w, o)
}

// twice opens what becomes an archive again: first by jumps, for the names
// alone, and then the whole in a row, if it is the whole.
func (t *treeRestore) twice(ctx context.Context) func() (extract.Source, error) {
	again := false
	return func() (extract.Source, error) {
		t.close()
		if again && t.whole() {
			return t.inARow(ctx)
		}
		again = true
		return t.atRandom(ctx, t.part)
	}
}

// streamVerdict is an error when the format could not hold everything.
func streamVerdict(r *extract.Result, format string) error {
	if n := r.Failed.Entries(); n > 0 {
		return hint(mark(errSkipped, "left out of the %s, which has no place for them: %s", format, entries(n)), "--format pxar holds everything")
	}
	if !r.Complete() {
		return hint(mark(errSkipped, "not all metadata is in the %s, as listed above", format), "--format pxar holds everything")
	}
	return nil
}
