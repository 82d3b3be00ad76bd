package pxar_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// op is an operation of samples.json.
type op struct {
	Op          string
	Name        string `json:"name_hex"`
	Mode, Flags string
	UID, GID    uint32
	Secs        int64  `json:"mtime_secs"`
	Nanos       uint32 `json:"mtime_nanos"`
	Content     string `json:"content_hex"`
	Target      string
	Major       uint64
	Minor       uint64
	Quota       uint64 `json:"quota_projid"`
	FCaps       string `json:"fcaps_hex"`
	Xattrs      []struct {
		Name  string
		Value string `json:"value_hex"`
	}
	Users         []pxar.ACLEntry `json:"acl_user"`
	Groups        []pxar.ACLEntry `json:"acl_group"`
	GroupObj      *pxar.Perm      `json:"acl_group_obj"`
	DefaultUsers  []pxar.ACLEntry `json:"acl_default_user"`
	DefaultGroups []pxar.ACLEntry `json:"acl_default_group"`
	Default       *struct {
		User  *pxar.Perm `json:"user_obj"`
		Group *pxar.Perm `json:"group_obj"`
		Other *pxar.Perm
		Mask  *pxar.Perm
	} `json:"acl_default"`
	Size    int64
	Payload int64 `json:"payload_offset"`
	Bytes   int64
}

var kinds = map[string]pxar.Kind{
	"root": pxar.Directory, "dir": pxar.Directory, "file": pxar.File, "payref": pxar.File, "symlink": pxar.Symlink,
	"hardlink": pxar.Hardlink, "fifo": pxar.FIFO, "sock": pxar.Socket,
}

func (o op) entry(t testing.TB) pxar.Entry {
	e := pxar.Entry{
		Name: string(unhex(t, o.Name)), Kind: kinds[o.Op], Target: o.Target, Device: pxar.Device{Major: o.Major, Minor: o.Minor},
		Size: o.Size, Payload: o.Payload,
	}
	if o.Op == "hardlink" {
		return e
	}
	mode, err := strconv.ParseUint(o.Mode, 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := strconv.ParseUint(o.Flags, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	if o.Op == "dev" {
		e.Kind = pxar.KindOf(uint32(mode))
	}
	e.Metadata = pxar.Metadata{
		Mode: uint32(mode), Flags: flags, UID: o.UID, GID: o.GID, Mtime: pxar.Time{Sec: o.Secs, Nsec: o.Nanos}, ProjectID: o.Quota,
	}
	if o.FCaps != "" {
		e.FCaps = unhex(t, o.FCaps)
	}
	for _, x := range o.Xattrs {
		e.Xattrs = append(e.Xattrs, pxar.Xattr{Name: x.Name, Value: append([]byte{}, unhex(t, x.Value)...)})
	}
	a := pxar.ACL{Users: o.Users, Groups: o.Groups, GroupObj: o.GroupObj, DefaultUsers: o.DefaultUsers, DefaultGroups: o.DefaultGroups}
	if d := o.Default; d != nil {
		or := func(p *pxar.Perm) pxar.Perm {
			if p == nil {
				return pxar.NoPerm
			}
			return *p
		}
		a.Default = &pxar.ACLDefault{UserObj: or(d.User), GroupObj: or(d.Group), Other: or(d.Other), Mask: or(d.Mask)}
	}
	if !a.Equal(nil) {
		e.ACL = &a
	}
	return e
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type samples struct {
	Files map[string]struct {
		Size   int
		SHA256 string
	}
	Prelude string `json:"prelude_of_tiny-prelude.mpxar"`
	Trees   map[string][]op
}

func golden(t testing.TB) (s samples) {
	t.Helper()
	if err := json.Unmarshal(file(t, "samples.json"), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// replay executes the list and returns what a reader should see.
func replay(t testing.TB, w *pxar.Writer, ops []op) (want []seen) {
	t.Helper()
	var path []string
	offsets := map[string]int64{}
	for _, o := range ops {
		if o.Op == "end" {
			if err := w.EndDir(); err != nil {
				t.Fatal(err)
			}
			path = path[:len(path)-1]
			continue
		}
		if o.Op == "advance" {
			if err := w.Advance(o.Bytes); err != nil {
				t.Fatal(err)
			}
			continue
		}
		e := o.entry(t)
		content := unhex(t, o.Content)
		var err error
		here := path
		if o.Op != "root" {
			here = append(path[:len(path):len(path)], e.Name)
		}
		switch o.Op {
		case "root", "dir":
			err = w.BeginDir(&e)
			path = here
		case "file":
			err = w.AddBytes(&e, content)
		case "payref":
			err = w.AddReference(&e)
		case "hardlink":
			e.Link = offsets[o.Target]
			err = w.Add(&e)
		default:
			err = w.Add(&e)
		}
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		offsets[pxar.Join(here)[1:]] = e.Offset
		want = append(want, see(here, &e, content))
	}
	if err := errors.Join(w.EndDir(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestArchivesAreWrittenAndReadAsTheSamplesAre(t *testing.T) {
	s := golden(t)
	for name, f := range s.Files {
		if name == "tiny.pcat1" {
			continue
		}
		b := file(t, name)
		if sum := sha256.Sum256(b); len(b) != f.Size || hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Fatalf("testdata/%s is not the file of the vector", name)
		}
	}
	for _, tc := range []struct{ tree, meta, payload, prelude string }{
		{"tiny", "tiny.pxar", "", ""},
		{"tiny", "tiny.mpxar", "tiny.ppxar", ""},
		{"tiny", "tiny-prelude.mpxar", "tiny.ppxar", s.Prelude},
		{"full", "full.pxar", "", ""},
		{"full", "full.mpxar", "full.ppxar", ""},
		{"reuse", "reuse.mpxar", "", ""},
	} {
		t.Run(tc.meta, func(t *testing.T) {
			var meta, payload bytes.Buffer
			o := pxar.WriterOptions{}
			if tc.meta != tc.tree+".pxar" {
				o.Payload = &payload
			}
			if tc.prelude != "" {
				o.Prelude = []byte(tc.prelude)
			}
			want := replay(t, pxar.NewWriter(&meta, o), s.Trees[tc.tree])
			raw := file(t, tc.meta)
			if !bytes.Equal(meta.Bytes(), raw) {
				t.Fatalf("written\n%x, the sample is\n%x", meta.Bytes(), raw)
			}
			var rawPayload []byte
			if tc.payload != "" {
				if rawPayload = file(t, tc.payload); !bytes.Equal(payload.Bytes(), rawPayload) {
					t.Fatalf("payload stream\n%x, the sample is\n%x", payload.Bytes(), rawPayload)
				}
			}
			contents := o.Payload == nil || rawPayload != nil
			for i := range want {
				if !contents {
					want[i].Content = ""
				}
			}
			got, entries, err := walk(raw, rawPayload)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Reader", got, want)
			a, err := open(raw, rawPayload)
			if err != nil {
				t.Fatal(err)
			}
			if string(a.Prelude()) != tc.prelude {
				t.Errorf("prelude %q", a.Prelude())
			}
			got, places, err := roam(a, contents, len(want))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Archive", got, want)
			samePlaces(t, entries, places)
		})
	}
}

func TestOldStatRecordsAreRead(t *testing.T) {
	raw := file(t, "entry-v1.pxar")
	meta := func(mode uint32, ns uint32) pxar.Metadata {
		return pxar.Metadata{Mode: mode, UID: 1000, GID: 1000, Mtime: pxar.Time{Sec: 1430487000, Nsec: ns}}
	}
	want := []seen{
		{Path: "/", Kind: pxar.Directory, Meta: meta(0o40755, 0)},
		{Path: "/file.txt", Kind: pxar.File, Meta: meta(0o100644, 1e6), Content: "This is a small text file.\n"},
	}
	got, _, err := walk(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Reader", got, want)
	a, err := open(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err = roam(a, true, 2); err != nil {
		t.Fatal(err)
	}
	same(t, "Archive", got, want)
}

func TestTypesAreHashesOfTheirNames(t *testing.T) {
	var raw struct {
		Types []struct {
			Name, Value string
			HashOf      string `json:"hash_of"`
		}
		Hashes []struct {
			Name string `json:"name_hex"`
			Hash string
		} `json:"filename_hashes"`
	}
	if err := json.Unmarshal(file(t, "constants.json"), &raw); err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, v := range raw.Types {
		want, err := strconv.ParseUint(v.Value, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := pxar.NameHash(v.HashOf); got != want {
			t.Errorf("hash of %s is %016x, want %016x", v.HashOf, got, want)
		}
		if pxar.Type(want).String() == v.Name {
			names++
		}
	}
	if names != 22 || len(raw.Types) != 23 { // the tail marker is no item
		t.Errorf("%d of %d types are known by their names", names, len(raw.Types))
	}
	for _, v := range raw.Hashes {
		want, err := strconv.ParseUint(v.Hash, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := pxar.NameHash(string(unhex(t, v.Name))); got != want {
			t.Errorf("hash of %s is %016x, want %016x", v.Name, got, want)
		}
	}
}

func TestPreludeIsThatOfTheExistingClient(t *testing.T) {
	want := golden(t).Prelude
	got, err := pxar.Prelude("/tmp\n")
	if err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
	for prelude, want := range map[string]string{want: "/tmp\n", `{"x":1,"exclude-patterns":"a"}`: "a"} {
		if p, ok := pxar.PreludePatterns([]byte(prelude)); !ok || p != want {
			t.Errorf("%s: %q, %v", prelude, p, ok)
		}
	}
	for _, other := range []string{"", "x", "[]", "{}", `{"exclude-patterns":1}`} {
		if p, ok := pxar.PreludePatterns([]byte(other)); ok {
			t.Errorf("%s: %q", other, p)
		}
	}
}
