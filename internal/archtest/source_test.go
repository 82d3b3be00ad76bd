package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sourcePackage is one directory of Go files of this module.
type sourcePackage struct {
	dir      string            // below the module's root, with slashes
	imports  map[string]string // import path to one file that has it; files of the product only
	comments []string          // files with a package comment
	files    int               // files of the product; 0 in a directory of tests only
}

// loadModule reads the imports and package comments of the whole module.
func loadModule(t *testing.T) (pkgs []*sourcePackage) {
	t.Helper()
	root := moduleRoot(t)
	byDir := map[string]*sourcePackage{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return enter(root, rel)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		dir := path.Dir(filepath.ToSlash(rel))
		p := byDir[dir]
		if p == nil {
			p = &sourcePackage{dir: dir, imports: map[string]string{}}
			byDir[dir] = p
			pkgs = append(pkgs, p)
		}
		return p.add(name, filepath.ToSlash(rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(pkgs, func(a, b *sourcePackage) int { return strings.Compare(a.dir, b.dir) })
	return pkgs
}

// enter skips what is no part of the module: other modules, test data, build
// products and hidden directories.
func enter(root, rel string) error {
	base := filepath.Base(rel)
	switch {
	case rel == ".":
		return nil
	case base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"):
		return filepath.SkipDir
	case rel == "bin" || rel == "dist" || rel == filepath.Join("bench", "work"):
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(root, rel, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

func (p *sourcePackage) add(name, rel string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	test := strings.HasSuffix(name, "_test.go")
	if f.Doc != nil {
		p.comments = append(p.comments, rel)
	}
	if test {
		return nil
	}
	p.files++
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports[imp] = rel
	}
	return nil
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = filepath.Dir(dir)
	}
}
