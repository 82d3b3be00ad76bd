package mount

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"pgregory.net/rapid"
)

// build writes an archive: f is called between begin and end of the root.
func build(t testing.TB, version int, f func(w *writer)) archive {
	t.Helper()
	var meta, payload bytes.Buffer
	o := pxar.WriterOptions{}
	if version == 2 {
		o.Payload = &payload
	}
	w := &writer{t: t, Writer: pxar.NewWriter(&meta, o)}
	w.must(w.BeginDir(&pxar.Entry{Kind: pxar.Directory, Metadata: w.meta(pxar.ModeDirectory | 0o755)}))
	f(w)
	w.must(w.EndDir(), w.Close())
	b := archive{meta: meta.Bytes()}
	if version == 2 {
		b.payload = payload.Bytes()
	}
	return b
}

type writer struct {
	*pxar.Writer
	t testing.TB
	n uint32
}

func (w *writer) must(errs ...error) {
	w.t.Helper()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// meta is plain metadata, different from one entry to the next.
func (w *writer) meta(mode uint32) pxar.Metadata {
	w.n++
	return pxar.Metadata{Mode: mode, UID: w.n, GID: 2 * w.n, Mtime: pxar.Time{Sec: 1_700_000_000 + int64(w.n), Nsec: w.n}}
}

func (w *writer) dir(name string, f func()) {
	w.t.Helper()
	w.must(w.BeginDir(&pxar.Entry{Name: name, Kind: pxar.Directory, Metadata: w.meta(pxar.ModeDirectory | 0o755)}))
	f()
	w.must(w.EndDir())
}

func (w *writer) file(name, content string) *pxar.Entry {
	w.t.Helper()
	e := &pxar.Entry{Name: name, Kind: pxar.File, Metadata: w.meta(pxar.ModeFile | 0o644)}
	w.must(w.AddBytes(e, []byte(content)))
	return e
}

func (w *writer) link(name string, to *pxar.Entry, path string) {
	w.t.Helper()
	w.must(w.Add(&pxar.Entry{Name: name, Kind: pxar.Hardlink, Link: to.Offset, Target: path}))
}

// trees draws archives that a file system could be the source of.
func trees(t *rapid.T, tb testing.TB) archive {
	version := rapid.IntRange(1, 2).Draw(t, "version")
	return build(tb, version, func(w *writer) {
		g := &grower{writer: w, t: t}
		g.grow("", rapid.IntRange(0, 120).Draw(t, "entries"), 0)
	})
}

type grower struct {
	*writer
	t     *rapid.T
	files []*pxar.Entry
	paths []string
}

var kinds = []pxar.Kind{
	pxar.File, pxar.File, pxar.File, pxar.Directory, pxar.Directory, pxar.Symlink, pxar.Hardlink,
	pxar.CharDevice, pxar.BlockDevice, pxar.FIFO, pxar.Socket,
}

func (g *grower) grow(path string, n, depth int) {
	used := map[string]bool{}
	for n > 0 {
		n--
		e := &pxar.Entry{Kind: rapid.SampledFrom(kinds).Draw(g.t, "kind"), Name: g.name()}
		if used[e.Name] || e.Kind == pxar.Hardlink && len(g.files) == 0 {
			continue
		}
		used[e.Name] = true
		if e.Kind != pxar.Hardlink {
			e.Metadata = g.metadata(e.Kind)
		}
		switch e.Kind {
		case pxar.Directory:
			g.must(g.BeginDir(e))
			if depth < 6 {
				sub := rapid.IntRange(0, n).Draw(g.t, "below")
				g.grow(path+e.Name+"/", sub, depth+1)
				n -= sub
			}
			g.must(g.EndDir())
			continue
		case pxar.File:
			size := rapid.SampledFrom([]int{0, 1, 511, 512, 513, 4096, 200_000}).Draw(g.t, "size")
			g.must(g.AddBytes(e, noise(uint64(g.n), size)))
			g.files, g.paths = append(g.files, e), append(g.paths, path+e.Name)
			continue
		case pxar.Symlink:
			e.Target = rapid.StringMatching(`[^\x00]{1,60}`).Draw(g.t, "target")
		case pxar.Hardlink:
			i := rapid.IntRange(0, len(g.files)-1).Draw(g.t, "first")
			if len(g.paths[i]) > pxar.MaxName {
				continue
			}
			e.Link, e.Target = g.files[i].Offset, g.paths[i]
		case pxar.CharDevice, pxar.BlockDevice:
			e.Device = pxar.Device{Major: uint64(rapid.IntRange(0, 4095).Draw(g.t, "major")), Minor: uint64(rapid.IntRange(0, 1<<20-1).Draw(g.t, "minor"))}
		}
		g.must(g.Add(e))
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed | 1<<40
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func (g *grower) name() string {
	if rapid.IntRange(0, 30).Draw(g.t, "long") == 0 {
		n := rapid.SampledFrom([]int{255, 256, MaxName, MaxName + 1, pxar.MaxName}).Draw(g.t, "length")
		return string(bytes.Repeat([]byte{'n'}, n))
	}
	b := rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(g.t, "name")
	for i, c := range b {
		if c == 0 || c == '/' || c == '.' && len(b) <= 2 {
			b[i] = 'x'
		}
	}
	return string(b)
}

func (g *grower) metadata(k pxar.Kind) pxar.Metadata {
	modes := map[pxar.Kind]uint32{
		pxar.Directory: pxar.ModeDirectory, pxar.File: pxar.ModeFile, pxar.Symlink: pxar.ModeSymlink, pxar.CharDevice: pxar.ModeCharDevice,
		pxar.BlockDevice: pxar.ModeBlockDevice, pxar.FIFO: pxar.ModeFIFO, pxar.Socket: pxar.ModeSocket,
	}
	m := g.meta(modes[k] | uint32(rapid.IntRange(0, 0o7777).Draw(g.t, "mode")))
	m.Mtime.Sec = rapid.Int64Range(-1<<33, 1<<34).Draw(g.t, "mtime")
	if k != pxar.File && k != pxar.Directory || rapid.IntRange(0, 3).Draw(g.t, "plain") > 0 {
		return m
	}
	for i := range rapid.IntRange(0, 3).Draw(g.t, "xattrs") {
		space := rapid.SampledFrom([]string{"user.", "trusted."}).Draw(g.t, "space")
		m.Xattrs = append(m.Xattrs, pxar.Xattr{
			Name:  fmt.Sprint(space, i, rapid.StringMatching(`[^\x00]{0,20}`).Draw(g.t, "xattr")),
			Value: noise(uint64(g.n), rapid.SampledFrom([]int{0, 1, 300, 60_000}).Draw(g.t, "value")),
		})
	}
	if k == pxar.File && rapid.Bool().Draw(g.t, "caps") {
		m.FCaps = binary.LittleEndian.AppendUint32(nil, 0x0200_0001)
		m.FCaps = append(m.FCaps, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	if rapid.Bool().Draw(g.t, "acl") {
		m.ACL = g.acl(k)
	}
	return m
}

func (g *grower) acl(k pxar.Kind) *pxar.ACL {
	perm := func() pxar.Perm { return pxar.Perm(rapid.IntRange(0, 7).Draw(g.t, "perm")) }
	named := func() (list []pxar.ACLEntry) {
		for id := range uint64(rapid.IntRange(0, 3).Draw(g.t, "named")) {
			list = append(list, pxar.ACLEntry{ID: 1000 + id, Perm: perm()})
		}
		return list
	}
	a := &pxar.ACL{Users: named(), Groups: named(), GroupObj: new(perm())}
	if k == pxar.Directory && rapid.Bool().Draw(g.t, "default") {
		a.Default = &pxar.ACLDefault{UserObj: perm(), GroupObj: perm(), Other: perm(), Mask: perm()}
		a.DefaultUsers, a.DefaultGroups = named(), named()
	}
	return a
}
