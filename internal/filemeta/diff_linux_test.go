package filemeta

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func TestDiffSaysWhichKindsDiffer(t *testing.T) {
	a := everything(0o100640, pxar.FlagNoDump)
	for w, change := range map[What]func(*pxar.Metadata){
		Owner: func(m *pxar.Metadata) { m.GID++ },
		Xattrs: func(m *pxar.Metadata) {
			m.Xattrs = []pxar.Xattr{{Name: "user.empty"}, {Name: "user.text", Value: []byte("b")}}
		},
		FCaps:   func(m *pxar.Metadata) { m.FCaps = nil },
		ACLs:    func(m *pxar.Metadata) { m.ACL = &pxar.ACL{GroupObj: m.ACL.GroupObj} },
		Project: func(m *pxar.Metadata) { m.ProjectID = 1 },
		Mtime:   func(m *pxar.Metadata) { m.Mtime.Nsec++ },
		Flags:   func(m *pxar.Metadata) { m.Flags = 0 },
	} {
		b := a
		if change(&b); Diff(&a, &b) != SetOf(w) || Diff(&b, &a) != SetOf(w) {
			t.Errorf("%s: %b", w, Diff(&a, &b))
		}
	}
	plain := pxar.Metadata{Mode: 0o100640}
	if d := Diff(&plain, &pxar.Metadata{Mode: 0o100600}); d != SetOf(Mode) {
		t.Errorf("mode: %b", d)
	}
	b := a
	b.Xattrs = []pxar.Xattr{a.Xattrs[1], {Name: "trusted.SGI_ACL_FILE", Value: []byte("x")}, a.Xattrs[0]}
	if d := Diff(&a, &b); d != 0 {
		t.Errorf("the same in another order: %b", d)
	}
	for name, want := range map[string]bool{
		"user.x": true, "trusted.x": true, "security.NTACL": true, "trusted.SGI_ACL_DEFAULT": false, "security.selinux": false, "system.posix_acl_access": false,
	} {
		if Stored(name) != want {
			t.Errorf("%s", name)
		}
	}
}
