package archtest

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasARoom(t *testing.T) {
	for _, p := range loadModule(t) {
		if _, ok := roomOf(p.dir); !ok && p.dir != "." {
			t.Errorf("%s is in no room: give it a line in the table of rules_test.go", p.dir)
		}
	}
}

func TestImportsPointDownTheLayers(t *testing.T) {
	for _, p := range loadModule(t) {
		r, ok := roomOf(p.dir)
		if !ok {
			continue // the test above says so
		}
		for imp, file := range p.imports {
			dir, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			target, _ := roomOf(dir)
			if target.dir != r.dir && !r.mayImport(target) {
				t.Errorf("%s: %s must not import %s; it may import: %s", file, r.dir, dir, r.may)
			}
		}
	}
}

func (r room) mayImport(target room) bool {
	return r.may == "internal" || slices.Contains(strings.Fields(r.may), target.dir)
}

func TestRoomsKeepAwayFromWhatTheyMustNotKnow(t *testing.T) {
	for _, p := range loadModule(t) {
		r, _ := roomOf(p.dir)
		for imp, file := range p.imports {
			if withinAny(imp, r.std) {
				t.Errorf("%s: %s must not import %s", file, r.dir, imp)
			}
		}
	}
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	for _, p := range loadModule(t) {
		for imp, file := range p.imports {
			for _, o := range owners {
				if within(imp, o.library) && !withinAny(p.dir, o.rooms) {
					t.Errorf("%s imports %s, which only %s may: %s", file, o.library, o.rooms, o.why)
				}
			}
		}
	}
}

func TestEveryPackageHasExactlyOneComment(t *testing.T) {
	for _, p := range loadModule(t) {
		if len(p.comments) != 1 {
			t.Errorf("%s has %d package comments (%s), want one", p.dir, len(p.comments), strings.Join(p.comments, ", "))
		}
	}
}

func TestTheTableIsOrderedFromTheBottomUp(t *testing.T) {
	above := map[string]bool{}
	for i := len(rooms) - 1; i >= 0; i-- {
		r := rooms[i]
		if above[r.dir] {
			t.Errorf("room %s is listed twice", r.dir)
		}
		for d := range strings.FieldsSeq(r.may) {
			if _, ok := roomOf(d); !ok && d != "internal" {
				t.Errorf("%s may import %s, which is no room", r.dir, d)
			}
			if above[d] {
				t.Errorf("%s may import %s, which stands above it", r.dir, d)
			}
		}
		above[r.dir] = true
	}
}
