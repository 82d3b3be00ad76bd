package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/inspect"
)

var inspected = regexp.MustCompile(`^<!-- inspect: (\S+) -->$`)

// dump is what "holdfast debug inspect" prints of a file, up to its last line.
func dump(t *testing.T, file string) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "internal/format/inspect/testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	rep, err := inspect.File(bytes.NewReader(b), int64(len(b)), inspect.Options{}, func(f inspect.Field) error {
		lines = append(lines, strings.Split(f.Line(), "\n")...)
		return nil
	})
	if err != nil || rep.Problems > 0 {
		t.Fatalf("%s: %v, %d problems", file, err, rep.Problems)
	}
	return append(lines, fmt.Sprintf("%s: %s, %d bytes", file, rep.Kind, len(b)))
}

func TestDumpsInThePagesAreThoseOfTheVectors(t *testing.T) {
	found := 0
	for _, name := range pages(t) {
		lines := strings.Split(readPage(t, name), "\n")
		changed := false
		for _, f := range slices.Backward(fences(lines)) {
			if f.first < 2 {
				continue
			}
			m := inspected.FindStringSubmatch(lines[f.first-2])
			if m == nil {
				continue
			}
			found++
			want := dump(t, m[1])
			if slices.Equal(want, lines[f.first:f.end]) {
				continue
			}
			if !*update {
				t.Errorf("%s shows another dump of %s than the program:\n%s\n(go test ./test/docs -update writes the page anew)",
					name, m[1], strings.Join(want, "\n"))
			}
			lines = slices.Replace(lines, f.first, f.end, want...)
			changed = true
		}
		if changed && *update {
			writePage(t, name, strings.Join(lines, "\n"))
		}
	}
	if found == 0 {
		t.Error("no page shows a dump")
	}
}
