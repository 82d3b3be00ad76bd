package mediacatalog_test

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
)

// rewrite writes records again. Room between fields is what it was.
func rewrite(t *testing.T, all []mediacatalog.Record) []byte {
	t.Helper()
	w := &writer{t: t}
	var chunks []digest.Digest
	for _, r := range all {
		switch r.Kind {
		case mediacatalog.Label:
			w.label(r.File, r.UUID, r.Seq)
		case mediacatalog.ArchiveStart:
			chunks = nil
		case mediacatalog.Chunk:
			chunks = append(chunks, r.Digest)
		case mediacatalog.ArchiveEnd:
			w.done(w.state.AppendArchive(w.log, r.File, r.UUID, r.Store, slices.Values(chunks)))
		case mediacatalog.Snapshot:
			w.done(w.state.AppendSnapshot(w.log, r.File, r.UUID, r.Store, snapshot(t, r.Path)))
		}
	}
	return w.log
}

func TestCatalogsOfPBSAreReadAndWrittenAgain(t *testing.T) {
	for name, want := range map[string]struct {
		chunks    int
		snapshots []string
		next      uint64
	}{
		"first.log":  {13, nil, 3},
		"second.log": {11, []string{"host/one/2026-11-29T22:27:05Z", "host/one/2026-11-29T22:27:10Z", "ns/ns1/host/two/2026-11-29T22:27:08Z"}, 8},
		"free.log":   {0, nil, 1},
		"room.log":   {13, nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := os.ReadFile("testdata/pbs-4.2.1/" + name)
			if err != nil {
				t.Fatal(err)
			}
			r := mediacatalog.NewReader(bytes.NewReader(log))
			all, err := readAll(r)
			if err != io.EOF {
				t.Fatal(err)
			}
			chunks, snapshots := 0, []string(nil)
			for _, rec := range all {
				switch rec.Kind {
				case mediacatalog.Chunk:
					chunks++
				case mediacatalog.Snapshot:
					snapshots = append(snapshots, rec.Path)
				}
			}
			state := r.State()
			if chunks != want.chunks || !slices.Equal(snapshots, want.snapshots) || state.NextFile() != want.next {
				t.Errorf("%d chunks, %q, then file %d; want %+v", chunks, snapshots, state.NextFile(), want)
			}
			// The room that PBS leaves between fields holds anything; records are
			// the same as soon as they are read.
			again, err := readAll(mediacatalog.NewReader(bytes.NewReader(rewrite(t, all))))
			if err != io.EOF || !slices.Equal(again, all) {
				t.Errorf("written again it says something else: %v", err)
			}
		})
	}
}
