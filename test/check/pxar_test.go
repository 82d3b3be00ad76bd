//go:build linux

package check

import (
	"strings"
	"testing"
)

const samples = "../../internal/format/pxar/testdata/"

func TestBothVersionsOfAVectorListTheSame(t *testing.T) {
	needTools(t)
	for name, want := range map[string]int{"tiny": 4, "full": 44} {
		one := python(t, 0, "pxar.py", samples+name+".pxar")
		two := python(t, 0, "pxar.py", samples+name+".mpxar", samples+name+".ppxar")
		if one != two || strings.Count(one, "\n") != want {
			t.Errorf("%s: %d and %d lines, want %d equal ones", name, strings.Count(one, "\n"), strings.Count(two, "\n"), want)
		}
	}
	python(t, 0, "pxar.py", samples+"entry-v1.pxar")
	python(t, 0, "pxar.py", samples+"tiny-prelude.mpxar", samples+"tiny.ppxar")
}

// Every byte of an archive says something: whichever is changed, the archive
// is faulty or lists otherwise.
func TestNoChangedByteOfAnArchiveGoesUnnoticed(t *testing.T) {
	needTools(t)
	const flip = `
import sys
import pxar
from formats import Fault
def listed(parts):
    try:
        return list(pxar.Archive(*(pxar.Stream([p]) for p in parts)))
    except (Fault, ValueError) as e:
        return str(e)
parts = [open(n, "rb").read() for n in sys.argv[1:]]
good = listed(parts)
assert isinstance(good, list), good
for i, part in enumerate(parts):
    for at in range(len(part)):
        bad = parts[:i] + [part[:at] + bytes([part[at] ^ 0x10]) + part[at + 1:]] + parts[i + 1:]
        if listed(bad) == good:
            print("part", i, "byte", at)
`
	for _, files := range [][]string{{"tiny.pxar"}, {"tiny.mpxar", "tiny.ppxar"}} {
		args := []string{"-c", flip}
		for _, f := range files {
			args = append(args, samples+f)
		}
		if out := python(t, 0, args...); out != "" {
			t.Errorf("%v: changes that were not noticed:\n%s", files, out)
		}
	}
}

func TestCatalogIsComparedWithItsArchive(t *testing.T) {
	needTools(t)
	const compare = `
import sys
import catalog, pxar
from formats import Fault
def same(data, archive, name):
    try:
        catalog.compare(data, [(name, pxar.Archive(pxar.Stream(pxar.file_pieces(archive))))])
        return True
    except Fault:
        return False
tiny, full, raw = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
assert same(raw, tiny, "tiny.pxar.didx")
assert not same(raw, tiny, "other.pxar.didx")
assert not same(raw, full, "tiny.pxar.didx")
for at in range(len(raw)):
    if same(raw[:at] + bytes([raw[at] ^ 0x40]) + raw[at + 1:], tiny, "tiny.pxar.didx"):
        print("byte", at)
`
	if out := python(t, 0, "-c", compare, samples+"tiny.pxar", samples+"full.pxar", "../../internal/format/catalog/testdata/tiny.pcat1"); out != "" {
		t.Errorf("changes that were not noticed:\n%s", out)
	}
}
