package extract_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// What archives of tests belong to: whoever runs them, so that every user can.
var uid, gid = uint32(os.Geteuid()), uint32(os.Getegid())

// found is what an independent walk sees of a file.
type found struct {
	Kind    pxar.Kind
	Meta    pxar.Metadata
	Target  string
	Device  pxar.Device
	Content string
	Same    string // the first path of a file with several links, in order
}

// walkTree looks at all that is below root, by other means than the package.
func walkTree(t testing.TB, root string) map[string]found {
	t.Helper()
	all := map[string]found{}
	inodes := map[uint64]string{}
	var down func(path, name string)
	down = func(path, name string) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		f := found{Kind: pxar.KindOf(st.Mode)}
		fd := -1
		if f.Kind == pxar.File || f.Kind == pxar.Directory {
			var err error
			if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			defer unix.Close(fd)
		}
		parent, err := unix.Open(filepath.Dir(path), unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(parent)
		fs, err := filemeta.Of(parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := fs.Read(fd, &st, &f.Meta); err != nil {
			t.Fatal(err)
		}
		switch f.Kind {
		case pxar.File:
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f.Content = string(b)
			if st.Nlink > 1 {
				if _, ok := inodes[st.Ino]; !ok {
					inodes[st.Ino] = name
				}
				f.Same = inodes[st.Ino]
			}
		case pxar.Symlink:
			if f.Target, err = os.Readlink(path); err != nil {
				t.Fatal(err)
			}
		case pxar.CharDevice, pxar.BlockDevice:
			f.Device = pxar.DeviceOf(st.Rdev)
		}
		all[name] = f
		if f.Kind == pxar.Directory {
			list, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				down(path+"/"+e.Name(), filepath.Join(name, e.Name()))
			}
		}
	}
	down(root, "/")
	return all
}

// expect is what walkTree should see of a tree.
func (n *node) expect() map[string]found {
	all := map[string]found{}
	paths := map[*node]string{}
	var down func(n *node, name string)
	down = func(n *node, name string) {
		f := found{Kind: n.Kind, Meta: n.Metadata, Target: n.Target, Device: n.Device, Content: string(n.content)}
		paths[n] = name
		if n.Kind == pxar.Hardlink {
			f = all[paths[n.first]]
			f.Same = paths[n.first]
			all[f.Same] = f
		}
		all[name] = f
		for _, k := range n.kids {
			down(k, filepath.Join(name, k.Name))
		}
	}
	down(n, "/")
	return all
}

var sortXattrs = cmp.Transformer("sorted", func(x []pxar.Xattr) map[string]string {
	m := map[string]string{}
	for _, a := range x {
		m[a.Name] = string(a.Value)
	}
	return m
})

// compare compares a tree with what is below root.
func compare(t testing.TB, n *node, root string) {
	t.Helper()
	if diff := cmp.Diff(n.expect(), walkTree(t, root), sortXattrs, cmp.Comparer(func(a, b *pxar.ACL) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("(-archive +target):\n%s", diff)
	}
}

// sorted sorts directories as archives do.
func (n *node) sorted() *node {
	slices.SortFunc(n.kids, func(a, b *node) int { return cmp2(a.Name, b.Name) })
	for _, k := range n.kids {
		k.sorted()
	}
	return n
}

func cmp2(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
