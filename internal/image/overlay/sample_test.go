package overlay_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
)

var update = flag.Bool("update", false, "write the sample of the documentation anew")

// TestTheSampleInTheDocumentationIsWhatIsWritten keeps the file that
// docs/formats/overlay.md explains equal to what this package makes.
func TestTheSampleInTheDocumentationIsWhatIsWritten(t *testing.T) {
	const path = "../../format/inspect/testdata/three-blocks.overlay"
	base := &made{size: 17_000} // five blocks, the last one short
	m := meta(base.size)
	m.Snapshot.NS, m.IndexSum = "lab", digest.Of([]byte("the table of digests"))
	file := filepath.Join(t.TempDir(), "ov")
	ov, err := overlay.Create(file, base, m, overlay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ov.WriteAt(bytes.Repeat([]byte("hold"), 1024), 4096)
	if err == nil {
		err = ov.Flush()
	}
	if err == nil {
		_, err = ov.WriteAt([]byte("fast"), 16_384) // the short block is copied up
	}
	if err == nil {
		err = ov.Zero(8192, 4096)
	}
	if err == nil {
		err = ov.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is written (go test -update writes it anew)", path)
	}
}
