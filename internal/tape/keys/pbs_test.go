package keys

import (
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

func TestKeysOfPBSAreReadAndWrittenAgain(t *testing.T) {
	s := directory(t, "")
	if err := os.CopyFS(s.dir.Path(), os.DirFS("testdata/pbs-4.2.1")); err != nil {
		t.Fatal(err)
	}
	files, _, err := s.List()
	if err != nil || len(files) != 1 || files[0].Hint != "the usual one" {
		t.Fatalf("%+v, %v", files, err)
	}
	f := files[0].Fingerprint
	if k, _, err := files[0].Unlock([]byte("correct-horse")); err != nil || k.Fingerprint() != f {
		t.Fatal(err)
	}
	if _, err := s.DataKey(tape.KeyOf{Fingerprint: f}); err != nil {
		t.Fatal(err)
	}
	before := [2]string{s.read(t, confdir.TapeKeys), s.read(t, confdir.TapeKeyFiles)}
	other, err := s.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), other, ""); err != nil {
		t.Fatal(err)
	}
	if after := [2]string{s.read(t, confdir.TapeKeys), s.read(t, confdir.TapeKeyFiles)}; after != before {
		t.Fatalf("the files are\n%s\n%s\nand were\n%s\n%s", after[0], after[1], before[0], before[1])
	}
}
