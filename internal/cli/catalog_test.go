package cli

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/rogpeppe/go-internal/testscript"
)

// archives TYPE/ID/TIME NAME=FILE...: a snapshot of archives that are files here.
func makeArchives(ts *testscript.TestScript, _ bool, args []string) {
	r, err := dir.Open(ts.Getenv("HOLDFAST_REPOSITORY"), dir.Options{})
	ts.Check(err)
	defer func() { ts.Check(r.Close()) }()
	i := strings.LastIndexByte(args[0], '/')
	group, err := names.ParseGroup(args[0][:i])
	ts.Check(err)
	when, err := names.ParseRFC3339(args[0][i+1:])
	ts.Check(err)
	n := names.Snapshot{Group: group, Time: when}
	ts.Check(storeArchives(context.Background(), r, n, ts.MkAbs, args[1:]))
}

func storeArchives(ctx context.Context, r repo.Repository, n names.Snapshot, path func(string) string, archives []string) (err error) {
	s, err := r.Begin(ctx, repo.Begin{Snapshot: n})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Abort())
		}
	}()
	w, err := backup.NewWriter(s, backup.Options{})
	if err != nil {
		return err
	}
	defer w.Close()
	for _, a := range archives {
		name, file, _ := strings.Cut(a, "=")
		f, err := os.Open(path(file))
		if err != nil {
			return err
		}
		cut, err := chunker.New(1 << 16)
		if err == nil {
			_, err = w.DynamicFrom(ctx, names.Archive(name), cut, f)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	m := manifest.New(n)
	for _, f := range w.Files() {
		if err := m.Add(f); err != nil {
			return err
		}
	}
	return s.Finish(ctx, m)
}
