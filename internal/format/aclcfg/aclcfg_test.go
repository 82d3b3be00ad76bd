package aclcfg_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/format/aclcfg"
)

// golden has the lines of the manual's example, and every optional thing.
const golden = `acl:1:/:root@pam!test:Admin
acl:1:/datastore/store1:user1@pbs:DatastoreAdmin
acl:0:/datastore/store1/ns1/ns2:@ops,a@pbs,a@pbs!t1:DatastoreAudit,DatastoreBackup
`

func TestLinesComeBackByteForByte(t *testing.T) {
	lines, err := aclcfg.Parse([]byte(golden))
	if err != nil {
		t.Fatal(err)
	}
	want := []aclcfg.Line{
		{Propagate: true, Path: "/", Who: []string{"root@pam!test"}, Roles: []string{"Admin"}},
		{Propagate: true, Path: "/datastore/store1", Who: []string{"user1@pbs"}, Roles: []string{"DatastoreAdmin"}},
		{Path: "/datastore/store1/ns1/ns2", Who: []string{"@ops", "a@pbs", "a@pbs!t1"}, Roles: []string{"DatastoreAudit", "DatastoreBackup"}},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b, err := aclcfg.Append(nil, lines...); err != nil || string(b) != golden {
		t.Errorf("written as %q, %v", b, err)
	}
}

func TestWhiteSpaceAndSlashesDoNotCount(t *testing.T) {
	lines, err := aclcfg.Parse([]byte("\n\n  acl:0://datastore//x/: a@pbs , b@pbs :Audit, Admin \r\n\nacl:1::c@pbs:Audit"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "acl:0:/datastore/x:a@pbs,b@pbs:Audit,Admin\nacl:1:/:c@pbs:Audit\n"
	if b, err := aclcfg.Append(nil, lines...); err != nil || string(b) != want {
		t.Errorf("written as %q, %v, want %q", b, err, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, line := range map[string]string{
		"too few fields":         "acl:1:/:a@pbs",
		"too many fields":        "acl:1:/:a@pbs:Audit:",
		"another word":           "acr:1:/:a@pbs:Audit",
		"another flag":           "acl:2:/:a@pbs:Audit",
		"nobody":                 "acl:1:/::Audit",
		"nobody in a list":       "acl:1:/:a@pbs,:Audit",
		"a group without a name": "acl:1:/:@:Audit",
		"no role":                "acl:1:/:a@pbs:",
		"white space in a role":  "acl:1:/:a@pbs:Au dit",
		"a control character":    "acl:1:/x\x01:a@pbs:Audit",
		"other than UTF-8":       "acl:1:/\xff:a@pbs:Audit",
	} {
		_, err := aclcfg.Parse([]byte("acl:1:/:a@pbs:Audit\n" + line + "\n"))
		if !errors.Is(err, aclcfg.ErrFormat) || !strings.Contains(err.Error(), "line 2") && name != "other than UTF-8" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCouldNotBeReadBackIsNotWritten(t *testing.T) {
	who, roles := []string{"a@pbs"}, []string{"Audit"}
	for name, l := range map[string]aclcfg.Line{
		"no path":              {Who: who, Roles: roles},
		"colon in a path":      {Path: "/a:b", Who: who, Roles: roles},
		"line end in a path":   {Path: "/a\nacl:1:/", Who: who, Roles: roles},
		"slash at the end":     {Path: "/a/", Who: who, Roles: roles},
		"nobody":               {Path: "/", Roles: roles},
		"no role":              {Path: "/", Who: who},
		"comma in a user":      {Path: "/", Who: []string{"a@pbs,b@pbs"}, Roles: roles},
		"line end in a role":   {Path: "/", Who: who, Roles: []string{"Audit\n"}},
		"empty name of a role": {Path: "/", Who: who, Roles: []string{""}},
	} {
		if b, err := aclcfg.Append(nil, l); !errors.Is(err, aclcfg.ErrFormat) {
			t.Errorf("%s: written as %q, %v", name, b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte("  acl:0://a//: @g , b@pbs :Audit\r\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := aclcfg.Parse(b)
		if err != nil {
			if !errors.Is(err, aclcfg.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		text, err := aclcfg.Append(nil, lines...)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", lines, err)
		}
		again, err := aclcfg.Parse(text)
		if err != nil || !cmp.Equal(lines, again) {
			t.Fatalf("%+v, then %+v, %v", lines, again, err)
		}
	})
}
