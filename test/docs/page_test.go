package docs_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/cli"
)

var update = flag.Bool("update", false, "write the pages anew from what the program prints")

// root is the directory that holds README.md.
const root = "../.."

// TestMain lets this binary be the program: the scripts in the pages call it by
// the names holdfast and pxar.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "holdfast" || name == "pxar" {
		os.Exit(cli.Main(context.Background(), cli.System("1.0.0"), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// pages are all Markdown files of the project, by path from the root.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			var rel string
			rel, err = filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writePage(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fence is a fenced block: lines [first, end) of the page lie between the
// fences.
type fence struct {
	kind       string
	first, end int
}

func fences(lines []string) (all []fence) {
	open := false
	for i, line := range lines {
		kind, ok := strings.CutPrefix(line, "```")
		switch {
		case !ok:
		case open:
			all[len(all)-1].end = i
			open = false
		default:
			all = append(all, fence{kind: kind, first: i + 1})
			open = true
		}
	}
	return all
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile("(?m)^#+ +(.+)$")
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names of a page's headings, as browsers of Markdown make them.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(readPage(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if to != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), to))
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(readPage(t, target)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], target)
			}
		}
	}
}
