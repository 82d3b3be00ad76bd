package extract_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"pgregory.net/rapid"
)

// randomTree draws a tree whose names are so few that two trees share many.
func randomTree(t *rapid.T) *node {
	var files []*node
	paths := map[*node]string{}
	budget := 40
	var fill func(d *node, path string, depth int)
	fill = func(d *node, path string, depth int) {
		n := rapid.IntRange(0, 6).Draw(t, "entries")
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "\xff\n", "e f", "..."}), n, n, rapid.ID[string]).Draw(t, "names")
		slices.Sort(names)
		for _, name := range names {
			if budget--; budget < 0 {
				return
			}
			var k *node
			switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
			case kind < 3 && depth < 4:
				k = dir(name)
				k.Mode = pxar.ModeDirectory | rapid.Uint32Range(0, 0o1777).Draw(t, "mode")&^0o2000 | 0o500
				fill(k, path+name+"/", depth+1)
			case kind == 7:
				k = symlink(name, rapid.SampledFrom([]string{"a", "..", "/", "../b/c", "\xff"}).Draw(t, "target"))
			case kind == 8:
				k = &node{Entry: entry(name, pxar.FIFO, pxar.ModeFIFO|0o640)}
			case kind == 9 && len(files) > 0:
				first := rapid.SampledFrom(files).Draw(t, "first")
				k = hardlink(name, first, paths[first])
				d.kids = append(d.kids, k)
				continue
			default:
				k = file(name, randomContent(t))
				k.Mode = pxar.ModeFile | rapid.Uint32Range(0, 0o777).Draw(t, "mode") | 0o400
				files = append(files, k)
				paths[k] = path + name
			}
			k.Mtime = pxar.Time{Sec: rapid.Int64Range(-1000, 1<<33).Draw(t, "sec"), Nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")}
			if k.Kind == pxar.File || k.Kind == pxar.Directory {
				for _, x := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"user.a", "user.b"}), 0, 2, rapid.ID[string]).Draw(t, "xattrs") {
					k.Xattrs = append(k.Xattrs, pxar.Xattr{Name: x, Value: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")})
				}
			}
			d.kids = append(d.kids, k)
		}
	}
	root := dir("")
	fill(root, "", 0)
	return root
}

// randomContent is short mostly, and has runs of zeros at times.
func randomContent(t *rapid.T) string {
	if rapid.IntRange(0, 7).Draw(t, "large") > 0 {
		return rapid.SampledFrom([]string{"", "1", "2", "text", "other"}).Draw(t, "content")
	}
	var b strings.Builder
	for range rapid.IntRange(1, 4).Draw(t, "parts") {
		n := rapid.IntRange(1, 200<<10).Draw(t, "length")
		b.WriteString(strings.Repeat(rapid.SampledFrom([]string{"\x00", "x"}).Draw(t, "fill"), n))
	}
	return b.String()
}

// source draws how an archive is made and read.
func source(t *rapid.T, tb testing.TB, tree *node) extract.Source {
	a := encode(tb, tree, rapid.IntRange(1, 2).Draw(t, "version"))
	if rapid.Bool().Draw(t, "at random") {
		return a.walker(tb, extract.Selection{})
	}
	return a.reader(tb)
}

func same(t *rapid.T, tb testing.TB, what string, tree *node, target string) {
	if diff := cmp.Diff(tree.expect(), walkTree(tb, target), sortXattrs, cmp.Comparer(func(a, b *pxar.ACL) bool { return a.Equal(b) })); diff != "" {
		t.Fatalf("%s (-archive +target):\n%s", what, diff)
	}
}

// Any tree comes back as it was, and one becomes another in place.
func TestRandomTreesComeBackAndBecomeEachOther(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("modes that shut a user out of his own files are drawn too")
	}
	top := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		target := filepath.Join(top, fmt.Sprint(round))
		one, two := randomTree(rt), randomTree(rt)
		o := extract.Options{Workers: rapid.IntRange(1, 4).Draw(rt, "workers")}
		if rapid.Bool().Draw(rt, "named") {
			o = o.Named()
		}
		res, err := extract.Directory(t.Context(), source(rt, t, one), target, o)
		if err != nil || !res.Complete() || res.Made != res.Asked {
			rt.Fatalf("%v, %+v", err, res)
		}
		same(rt, t, "new", one, target)
		o.InPlace, o.Delete, o.Checksum = true, true, rapid.Bool().Draw(rt, "checksum")
		if !o.Checksum {
			// Same size and time, and another content: nobody can see that.
			differ := map[string]bool{}
			for path, f := range one.expect() {
				g, ok := two.expect()[path]
				differ[path] = ok && f.Meta.Mtime == g.Meta.Mtime && len(f.Content) == len(g.Content) && f.Content != g.Content
				o.Checksum = o.Checksum || differ[path]
			}
		}
		res, err = extract.Directory(t.Context(), source(rt, t, two), target, o)
		if err != nil || !res.Complete() {
			rt.Fatalf("%v, %+v", err, res)
		}
		same(rt, t, "in place", two, target)
		res, err = extract.Directory(t.Context(), source(rt, t, two), target, o)
		if err != nil || res.Same != res.Asked || res.Changed != (extract.Count{}) || res.Deleted != 0 {
			rt.Fatalf("once more: %v, %+v", err, res)
		}
		v, err := extract.Verify(t.Context(), source(rt, t, two), target, extract.VerifyOptions{})
		if err != nil || !v.Explained(new(extract.Result)) || v.Same != res.Asked {
			rt.Fatalf("read back: %v, %+v", err, v)
		}
		var stream bytes.Buffer
		b := encode(t, two, 2)
		open := func() (extract.Source, error) { return b.reader(t), nil }
		if _, err := extract.Pxar(t.Context(), open, &stream, extract.StreamOptions{}); err != nil || !bytes.Equal(stream.Bytes(), encode(t, two, 1).meta) {
			rt.Fatalf("as a stream: %v", err)
		}
		if err := os.RemoveAll(target); err != nil {
			rt.Fatal(err)
		}
	})
}
