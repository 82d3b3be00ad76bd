package filemeta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// unhex reads hexadecimal digits; spaces do not count.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Linux returned for files after
//
//	chmod 640 f; setfacl -m u:1000:rw,u:5:r,g:100:x f
//	setfacl -d -m u::rwx,g::rx,o::-,u:1000:rwx d
const (
	accessHex = `02000000
		0100 0600 ffffffff  0200 0400 05000000  0200 0600 e8030000  0400 0400 ffffffff
		0800 0100 64000000  1000 0700 ffffffff  2000 0000 ffffffff`
	defaultHex = `02000000
		0100 0700 ffffffff  0200 0700 e8030000  0400 0500 ffffffff  1000 0700 ffffffff
		2000 0000 ffffffff`
)

func TestACLOfLinuxIsSplitBetweenModeAndArchiveAndComesBack(t *testing.T) {
	m := pxar.Metadata{Mode: 0o100670} // the group bits are the mask
	if err := setAccess(&m, unhex(t, accessHex)); err != nil {
		t.Fatal(err)
	}
	if err := setDefault(&m, unhex(t, defaultHex)); err != nil {
		t.Fatal(err)
	}
	want := &pxar.ACL{
		Users:        []pxar.ACLEntry{{ID: 5, Perm: 4}, {ID: 1000, Perm: 6}},
		Groups:       []pxar.ACLEntry{{ID: 100, Perm: 1}},
		GroupObj:     new(pxar.Perm(4)),
		Default:      &pxar.ACLDefault{UserObj: 7, GroupObj: 5, Other: 0, Mask: 7},
		DefaultUsers: []pxar.ACLEntry{{ID: 1000, Perm: 7}},
	}
	if diff := cmp.Diff(want, m.ACL); diff != "" {
		t.Fatalf("ACL (-want +got):\n%s", diff)
	}
	if got := AccessACL(&m); !bytes.Equal(got, unhex(t, accessHex)) {
		t.Errorf("access ACL %x", got)
	}
	if got := DefaultACL(&m); !bytes.Equal(got, unhex(t, defaultHex)) {
		t.Errorf("default ACL %x", got)
	}
}

func TestACLThatSaysNoMoreThanTheModeIsNone(t *testing.T) {
	plain := unhex(t, "02000000 0100 0600 ffffffff 0400 0400 ffffffff 2000 0400 ffffffff")
	m := pxar.Metadata{Mode: 0o100644}
	if err := setAccess(&m, plain); err != nil || m.ACL != nil {
		t.Errorf("got %v, %v", m.ACL, err)
	}
	if err := setDefault(&m, plain[:4]); err != nil || m.ACL != nil {
		t.Errorf("an empty default ACL: %v, %v", m.ACL, err)
	}
	if a, d := AccessACL(&m), DefaultACL(&m); a != nil || d != nil {
		t.Errorf("without an ACL: %x, %x", a, d)
	}
}

func TestNamedEntriesWithoutMaskGetOneOfTheGroupBits(t *testing.T) {
	m := pxar.Metadata{Mode: 0o100640, ACL: &pxar.ACL{Users: []pxar.ACLEntry{{ID: 7, Perm: 7}}}}
	want := unhex(t, "02000000 0100 0600 ffffffff 0200 0700 07000000 0400 0400 ffffffff 1000 0400 ffffffff 2000 0000 ffffffff")
	if got := AccessACL(&m); !bytes.Equal(got, want) {
		t.Errorf("access %x, want %x", got, want)
	}
	m.ACL = &pxar.ACL{DefaultUsers: m.ACL.Users}
	if got := DefaultACL(&m); !bytes.Equal(got, want) {
		t.Errorf("default %x, want %x", got, want)
	}
}

func TestACLThatNoFileSystemCouldHoldIsNotBentToFit(t *testing.T) {
	for name, a := range map[string]*pxar.ACL{
		"id of 33 bits":         {Users: []pxar.ACLEntry{{ID: 1 << 32, Perm: 7}}, DefaultGroups: []pxar.ACLEntry{{ID: 1 << 32, Perm: 7}}},
		"id that means nobody":  {Groups: []pxar.ACLEntry{{ID: aclNobody}}, DefaultUsers: []pxar.ACLEntry{{ID: aclNobody}}},
		"permissions above 7":   {Users: []pxar.ACLEntry{{ID: 1, Perm: 8}}, Default: &pxar.ACLDefault{Mask: 8}},
		"permissions of 64 bit": {GroupObj: new(pxar.Perm(1 << 63)), Default: &pxar.ACLDefault{Other: pxar.NoPerm - 1}},
	} {
		m := pxar.Metadata{Mode: 0o40755, ACL: a}
		if a, d := AccessACL(&m), DefaultACL(&m); a != nil || d != nil {
			t.Errorf("%s: %x, %x", name, a, d)
		}
	}
}

func TestBytesThatAreNoACLAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":             "",
		"cut short":           "02000000 0100 0600 ffffff",
		"other version":       "01000000 0100 0600 ffffffff",
		"unknown tag":         "02000000 4000 0600 ffffffff",
		"owner twice":         "02000000 0100 0600 ffffffff 0100 0600 ffffffff",
		"permissions above 7": "02000000 0100 0800 ffffffff",
	} {
		if _, err := parseACL(unhex(t, text)); !errors.Is(err, ErrACL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntriesForUsersOfOtherNamespacesAreLeftOutAndSaid(t *testing.T) {
	const text = "02000000 0100 0700 ffffffff 0200 0600 05000000 0200 0700 ffffffff 0400 0500 ffffffff 1000 0700 ffffffff 2000 0500 ffffffff"
	for name, set := range map[string]func(*pxar.Metadata, []byte) error{"access": setAccess, "default": setDefault} {
		var m pxar.Metadata
		if err := set(&m, unhex(t, text)); !errors.Is(err, ErrACL) {
			t.Errorf("%s: err = %v, want ErrACL", name, err)
		}
		if users := append(m.ACL.Users, m.ACL.DefaultUsers...); len(users) != 1 || users[0].ID != 5 {
			t.Errorf("%s: %v, want the user 5 alone", name, users)
		}
	}
}

// FuzzACL: what is read as an ACL comes back from an archive as one that says
// the same. Modes go with it as the kernel keeps them: its group bits are the
// mask, or the owning group.
func FuzzACL(f *testing.F) {
	f.Add(unhex(f, accessHex))
	f.Add(unhex(f, defaultHex))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseACL(b)
		if err != nil {
			if !errors.Is(err, ErrACL) {
				t.Fatalf("%v is not ErrACL", err)
			}
			return
		}
		p.foreign = false // they are not built
		again, err := parseACL(p.build())
		if err != nil {
			t.Fatalf("does not survive: %v", err)
		}
		if diff := cmp.Diff(p, again, cmp.AllowUnexported(aclParts{})); diff != "" {
			t.Fatalf("does not survive (-want +got):\n%s", diff)
		}
		if p.owner == nil || p.groupObj == nil || p.other == nil || p.mask == nil {
			return // the kernel has no such ACL with named entries
		}
		m := pxar.Metadata{Mode: uint32(*p.owner<<6 | *p.mask<<3 | *p.other)}
		if err := errors.Join(setAccess(&m, b), setDefault(&m, b)); err != nil && !errors.Is(err, errOutside) {
			t.Fatal(err)
		}
		if a, d := AccessACL(&m), DefaultACL(&m); !bytes.Equal(a, p.build()) || !bytes.Equal(d, p.build()) {
			t.Fatalf("%x becomes %x and %x", p.build(), a, d)
		}
	})
}

func TestACLsHaveAText(t *testing.T) {
	m := pxar.Metadata{Mode: 0o100670}
	if err := errors.Join(setAccess(&m, unhex(t, accessHex)), setDefault(&m, unhex(t, defaultHex))); err != nil {
		t.Fatal(err)
	}
	if got, want := AccessText(&m), "user::rw-,user:5:r--,user:1000:rw-,group::r--,group:100:--x,mask::rwx,other::---"; got != want {
		t.Errorf("access %s, want %s", got, want)
	}
	if got, want := DefaultText(&m), "user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::---"; got != want {
		t.Errorf("default %s, want %s", got, want)
	}
	if got := AccessText(&pxar.Metadata{}); got != "" {
		t.Errorf("none: %s", got)
	}
}
