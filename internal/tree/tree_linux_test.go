package tree_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// payload is a payload stream in memory.
type payload struct {
	bytes.Buffer
	hints []int64
}

func (p *payload) Hint(off int64)                       { p.hints = append(p.hints, off) }
func (p *payload) Reuse(at int64, _ []tree.Chunk) error { panic("nothing is reused here") }

func TestArchiveHoldsWhatFindSees(t *testing.T) {
	dir := t.TempDir()
	script := `cd "$1"; mkdir -p a/b/c d; echo hi >a/f; ln a/f d/link; ln -s a/f l; mkfifo p; head -c 3000000 /dev/urandom >a/big; : >empty; printf x >'a/b/new
line'; seq 1 200 | while read i; do echo $i >a/b/c/$i; done`
	if out, err := exec.Command("bash", "-c", script, "-", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, version := range []int{1, 2} {
		var meta bytes.Buffer
		out := tree.Output{Meta: &meta}
		var p *payload
		if version == 2 {
			p = new(payload)
			out.Payload = p
		}
		rep, err := tree.Archive(t.Context(), dir, out, tree.Options{Problem: func(p tree.Problem) { t.Error(p) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", rep)
		var pr io.Reader
		if p != nil {
			pr = bytes.NewReader(p.Bytes())
		}
		r, err := pxar.NewReader(bytes.NewReader(meta.Bytes()), pr)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == pxar.End {
				continue
			}
			seen++
			path := filepath.Join(dir, filepath.Join(r.ClonePath()...))
			if e.Kind == pxar.File {
				got, err := io.ReadAll(r)
				want, werr := os.ReadFile(path)
				if err != nil || werr != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, want %d: %v %v", path, len(got), len(want), err, werr)
				}
			}
		}
		if want := int64(seen - 1); rep.Entries != want {
			t.Errorf("%d entries reported, %d there", rep.Entries, want)
		}
	}
}
