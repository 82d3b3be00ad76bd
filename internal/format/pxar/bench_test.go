package pxar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// benchTree has dirs directories of files files of size bytes each.
func benchTree(dirs, files, size int) *node {
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	root := &node{Entry: *dir("")}
	for i := range dirs {
		d := &node{Entry: *dir(fmt.Sprintf("directory-%d", i))}
		for k := range files {
			d.kids = append(d.kids, &node{Entry: *regular(fmt.Sprintf("some-file-%d.go", k), int64(size)), content: content})
		}
		root.kids = append(root.kids, d)
	}
	return root
}

func perEntry(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

var shapes = []struct {
	name              string
	dirs, files, size int
}{
	{"small", 100, 100, 512},
	{"large", 1, 8, 8 << 20},
}

func BenchmarkWriter(b *testing.B) {
	for _, s := range shapes {
		tree := benchTree(s.dirs, s.files, s.size)
		for version := 1; version <= 2; version++ {
			b.Run(fmt.Sprintf("files=%s/version=%d", s.name, version), func(b *testing.B) {
				b.SetBytes(int64(s.dirs * s.files * s.size))
				b.ReportAllocs()
				for b.Loop() {
					o := pxar.WriterOptions{}
					if version == 2 {
						o.Payload = io.Discard
					}
					w := pxar.NewWriter(io.Discard, o)
					must(b, tree.encode(w), w.Close())
				}
				perEntry(b, s.dirs*(s.files+1))
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, s := range shapes {
		for version := 1; version <= 2; version++ {
			meta, payload := encode(b, benchTree(s.dirs, s.files, s.size), version)
			b.Run(fmt.Sprintf("files=%s/version=%d", s.name, version), func(b *testing.B) {
				b.SetBytes(int64(s.dirs * s.files * s.size))
				b.ReportAllocs()
				buf := make([]byte, 1<<20)
				for b.Loop() {
					var p io.Reader
					if version == 2 {
						p = io.MultiReader(bytes.NewReader(payload))
					}
					r, err := pxar.NewReader(io.MultiReader(bytes.NewReader(meta)), p)
					must(b, err)
					for {
						if _, err := r.Next(); errors.Is(err, io.EOF) {
							break
						} else if err != nil {
							b.Fatal(err)
						}
						for {
							if _, err := r.Read(buf); errors.Is(err, io.EOF) {
								break
							} else if err != nil {
								b.Fatal(err)
							}
						}
					}
				}
				perEntry(b, s.dirs*(s.files+1))
			})
		}
	}
}

func BenchmarkArchive(b *testing.B) {
	meta, payload := encode(b, benchTree(100, 100, 512), 2)
	a, err := open(meta, payload)
	must(b, err)
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for d, err := range a.Root().Entries() {
				must(b, err)
				sub, err := a.Root().Open(d)
				must(b, err)
				for _, err := range sub.Entries() {
					must(b, err)
				}
			}
		}
		perEntry(b, 100*101)
	})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Lookup("directory-50", "some-file-50.go"); err != nil {
				b.Fatal(err)
			}
		}
		perEntry(b, 1)
	})
}
