package mount

import (
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../format/pxar/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// counted counts the links of an archive.
func counted(t testing.TB, b archive) *Links {
	t.Helper()
	l, err := CountLinks(t.Context(), b.open(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSamplesOfTheFormatAreShownAsTheyAre(t *testing.T) {
	for name, b := range map[string]archive{
		"tiny, version 1":  {meta: sample(t, "tiny.pxar")},
		"tiny, version 2":  {sample(t, "tiny.mpxar"), sample(t, "tiny.ppxar")},
		"with a prelude":   {sample(t, "tiny-prelude.mpxar"), sample(t, "tiny.ppxar")},
		"full, version 1":  {meta: sample(t, "full.pxar")},
		"full, version 2":  {sample(t, "full.mpxar"), sample(t, "full.ppxar")},
		"old stat records": {meta: sample(t, "entry-v1.pxar")},
	} {
		t.Run(name, func(t *testing.T) {
			m := mounted(t, b.open(t), Options{Links: counted(t, b), AllowOther: true})
			sameTree(t, m.Dir(), b.read(t))
		})
	}
}

func TestKernelsThatOpenFilesAreServedToo(t *testing.T) {
	b := archive{sample(t, "full.mpxar"), sample(t, "full.ppxar")}
	m := mounted(t, b.open(t), Options{Links: counted(t, b), oldKernel: true})
	sameTree(t, m.Dir(), b.read(t))
}

func TestRandomTreesAreShownAsTheyAre(t *testing.T) {
	needFUSE(t)
	rapid.Check(t, func(rt *rapid.T) {
		b := trees(rt, t)
		want := b.read(t)
		t.Run("", func(t *testing.T) {
			m := mounted(t, b.open(t), Options{Links: counted(t, b)})
			sameTree(t, m.Dir(), want)
		})
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}
