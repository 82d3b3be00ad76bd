package bucketsim

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// dump prints the store: the log as it grew, and what else is there.
func (w *world) dump(t *testing.T) {
	var entries []string
	for i, err := range objstore.All(context.Background(), w.store, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		at := i.Modified.Format("02 15:04:05.000")
		if !bytes.HasPrefix([]byte(i.Key), []byte("log/")) {
			t.Logf("%s %8d %s", at, i.Size, i.Key)
			continue
		}
		b, _, err := objstore.ReadAll(context.Background(), w.store, i.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		entries = append(entries, at+" "+string(line))
	}
	for _, e := range slices.Backward(entries) {
		t.Log(e)
	}
}
