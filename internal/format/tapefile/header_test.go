package tapefile_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

func snapshot(t testing.TB, path string) names.Snapshot {
	t.Helper()
	s, err := names.ParseSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fingerprint(t testing.TB, s string) chunkcrypt.Fingerprint {
	t.Helper()
	f, err := chunkcrypt.ParseFingerprint(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLabelsArePrintedWithSortedKeys(t *testing.T) {
	l := goldenLabel
	l.Pool = "daily"
	h, err := l.Header(content(1), 1)
	want := `{
  "ctime": 1700000000,
  "label_text": "TEST01L8",
  "pool": "daily",
  "uuid": "01234567-89ab-cdef-0123-456789abcdef"
}`
	if err != nil || string(h.JSON) != want {
		t.Errorf("got %s, %v; want %s", h.JSON, err, want)
	}
	if back, err := h.Label(); err != nil || back != l {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestMediaSetLabelCarriesItsKeyFile(t *testing.T) {
	l := goldenSet
	l.Seq, l.Key = 3, fingerprint(t, strings.Repeat("0e:ab:d4:46:", 8))
	h, err := l.Header(content(1), 1, []byte(`{"kdf":null,"created":"2023-11-14T22:13:20Z","modified":"2023-11-14T22:13:20Z","data":"AAA=","hint":"<&>"}`))
	want := `{
  "ctime": 1700000100,
  "encryption_key_fingerprint": "` + l.Key.String() + `",
  "key-config": {
    "created": "2023-11-14T22:13:20Z",
    "data": "AAA=",
    "hint": "<&>",
    "kdf": null,
    "modified": "2023-11-14T22:13:20Z"
  },
  "pool": "daily",
  "seq_nr": 3,
  "uuid": "9da37a55-aac7-4deb-91c6-482b3b675f30"
}`
	if err != nil || string(h.JSON) != want {
		t.Fatalf("got %s, %v; want %s", h.JSON, err, want)
	}
	back, key, err := h.SetLabel()
	if err != nil || back != l {
		t.Fatalf("read back %+v, %v", back, err)
	}
	again, err := back.Header(content(1), 1, key)
	if err != nil || !bytes.Equal(again.JSON, h.JSON) {
		t.Fatalf("written again %s, %v", again.JSON, err)
	}
}

func TestArchivesArePrintedInTheOrderOfTheirFields(t *testing.T) {
	root, err := tapefile.SnapshotArchive{Store: "store1", Snapshot: snapshot(t, "vm/100/2023-11-14T22:13:20Z")}.Header(content(1), 1)
	if want := "{\n  \"snapshot\": \"vm/100/2023-11-14T22:13:20Z\",\n  \"store\": \"store1\"\n}"; err != nil || string(root.JSON) != want || root.Content != tapefile.RootSnapshot {
		t.Errorf("got %v %s, %v", root.Content, root.JSON, err)
	}
	deep, err := tapefile.SnapshotArchive{Store: "store1", Snapshot: snapshot(t, "ns/a/ns/b/vm/100/2023-11-14T22:13:20Z")}.Header(content(1), 1)
	if err != nil || deep.Content != tapefile.NamespacedSnapshot || !strings.Contains(string(deep.JSON), `"ns/a/ns/b/vm/100/`) {
		t.Errorf("got %v %s, %v", deep.Content, deep.JSON, err)
	}
	cat := tapefile.CatalogArchive{Medium: medium, MediaSet: mediaSet, Seq: 2}.Header(content(1), 1, false)
	if want := "{\n  \"uuid\": \"" + medium.String() + "\",\n  \"media_set_uuid\": \"" + mediaSet.String() + "\",\n  \"seq_nr\": 2\n}"; string(cat.JSON) != want || cat.Content != tapefile.RootCatalog {
		t.Errorf("got %v %s", cat.Content, cat.JSON)
	}
}

func TestReadersDoNotDependOnOrderAndIgnoreWhatTheyDoNotKnow(t *testing.T) {
	h := tapefile.Header{Content: tapefile.NamespacedCatalog, JSON: []byte(`{"seq_nr":7,"new":{"x":[1]},"media_set_uuid":"` + mediaSet.String() + `","uuid":"` + medium.String() + `"}`)}
	want := tapefile.CatalogArchive{Medium: medium, MediaSet: mediaSet, Seq: 7}
	if a, err := h.CatalogArchive(); err != nil || a != want {
		t.Fatalf("got %+v, %v", a, err)
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	good := goldenFiles(t)["label"]
	for _, tc := range []struct {
		name  string
		spoil func(b []byte) []byte
	}{
		{"nothing", func([]byte) []byte { return nil }},
		{"half a header", func(b []byte) []byte { return b[:47] }},
		{"half of the JSON", func(b []byte) []byte { return b[:60] }},
		{"a foreign magic", func(b []byte) []byte { b[0] ^= 1; return b }},
		{"an unknown content", func(b []byte) []byte { b[8] ^= 1; return b }},
		{"no JSON", func(b []byte) []byte { b[40] = 0; return b }},
		{"too much JSON", func(b []byte) []byte { b[43] = 1; return b }},
		{"an archive of an unreleased version", func(b []byte) []byte {
			copy(b[8:], []byte{0x3e, 0xad, 0xa7, 0x5f, 0x31, 0x4c, 0x06, 0x6e})
			return b
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tapefile.ReadHeader(bytes.NewReader(tc.spoil(bytes.Clone(good))))
			if !errors.Is(err, tapefile.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}

func TestErrorsOfTheTapeAreNotDamage(t *testing.T) {
	broken := errors.New("drive unplugged")
	_, err := tapefile.ReadHeader(iotest.ErrReader(broken))
	if !errors.Is(err, broken) || errors.Is(err, tapefile.ErrFormat) {
		t.Errorf("header: %v", err)
	}
	_, _, err = tapefile.NewChunkReader(iotest.ErrReader(broken)).Next(nil)
	if !errors.Is(err, broken) || errors.Is(err, tapefile.ErrFormat) {
		t.Errorf("chunk: %v", err)
	}
}

func TestContentsRefuse(t *testing.T) {
	label := func(h tapefile.Header) error { _, err := h.Label(); return err }
	set := func(h tapefile.Header) error { _, _, err := h.SetLabel(); return err }
	chunks := func(h tapefile.Header) error { _, err := h.ChunkArchive(); return err }
	snap := func(h tapefile.Header) error { _, err := h.SnapshotArchive(); return err }
	cat := func(h tapefile.Header) error { _, err := h.CatalogArchive(); return err }
	id := medium.String()
	for _, tc := range []struct {
		name    string
		content tapefile.Content
		read    func(tapefile.Header) error
		json    string
	}{
		{"another content", tapefile.MediaSetLabel, label, `{"ctime":1,"label_text":"AB","uuid":"` + id + `"}`},
		{"no JSON", tapefile.MediumLabel, label, `{`},
		{"no object", tapefile.MediumLabel, label, `[]`},
		{"no text", tapefile.MediumLabel, label, `{"ctime":1,"uuid":"` + id + `"}`},
		{"a text that leaves its directory", tapefile.MediumLabel, label, `{"ctime":1,"label_text":"../x","uuid":"` + id + `"}`},
		{"a text that is too short", tapefile.MediumLabel, label, `{"ctime":1,"label_text":"A","uuid":"` + id + `"}`},
		{"a pool that is none", tapefile.MediumLabel, label, `{"ctime":1,"label_text":"AB","pool":"a b","uuid":"` + id + `"}`},
		{"a time that is no number", tapefile.MediumLabel, label, `{"ctime":"1","label_text":"AB","uuid":"` + id + `"}`},
		{"a time with a fraction", tapefile.MediumLabel, label, `{"ctime":1.5,"label_text":"AB","uuid":"` + id + `"}`},
		{"a uuid in braces", tapefile.MediumLabel, label, `{"ctime":1,"label_text":"AB","uuid":"{` + id + `}"}`},
		{"a negative number of a tape", tapefile.MediaSetLabel, set, `{"ctime":1,"pool":"AB","seq_nr":-1,"uuid":"` + id + `"}`},
		{"half a fingerprint", tapefile.MediaSetLabel, set, `{"ctime":1,"pool":"AB","seq_nr":1,"uuid":"` + id + `","encryption_key_fingerprint":"0e:ab"}`},
		{"a store that leaves its directory", tapefile.Chunks, chunks, `{"store":"../x"}`},
		{"a snapshot that leaves its store", tapefile.RootSnapshot, snap, `{"store":"store1","snapshot":"vm/../2023-11-14T22:13:20Z"}`},
		{"no medium", tapefile.RootCatalog, cat, `{"media_set_uuid":"` + id + `","seq_nr":1}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.read(tapefile.Header{Content: tc.content, JSON: []byte(tc.json)}); !errors.Is(err, tapefile.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}

func TestNothingIsWrittenThatCouldNotBeRead(t *testing.T) {
	now := int64(1)
	_, badText := tapefile.Label{Text: "a/b"}.Header(content(1), now)
	_, badPool := tapefile.SetLabel{Pool: "x"}.Header(content(1), now, nil)
	_, badKey := goldenSet.Header(content(1), now, []byte("{"))
	_, badStore := tapefile.ChunkArchive{Store: "\""}.Header(content(1), now)
	_, badSnapshot := tapefile.SnapshotArchive{Store: "store1"}.Header(content(1), now)
	_, noContent := tapefile.Header{JSON: []byte("{}")}.Append(nil)
	_, noJSON := tapefile.Header{Content: tapefile.MediumLabel}.Append(nil)
	_, tooLong := tapefile.Header{Content: tapefile.MediumLabel, JSON: make([]byte, tapefile.MaxJSON+1)}.Append(nil)
	for name, err := range map[string]error{
		"text": badText, "pool": badPool, "key": badKey, "store": badStore, "snapshot": badSnapshot,
		"content": noContent, "no JSON": noJSON, "too much JSON": tooLong,
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLastChunkMayBeCutAnywhere(t *testing.T) {
	file := goldenFiles(t)["chunk archive"]
	_, r := readHeader(t, file)
	entry := file[len(file)-r.Len():]
	two := append(bytes.Clone(entry), entry...)
	for n := len(entry); n <= len(two); n++ {
		c := tapefile.NewChunkReader(iotest.HalfReader(bytes.NewReader(two[:n])))
		chunks := 0
		var err error
		for err == nil {
			if _, _, err = c.Next(make([]byte, 0, 64)); err == nil {
				chunks++
			}
		}
		want, cut := 1, n > len(entry) && n < len(two)
		if n == len(two) {
			want = 2
		}
		if err != io.EOF || chunks != want || c.Cut() != cut {
			t.Fatalf("%d of %d bytes: %d chunks, cut %v, %v", n, len(two), chunks, c.Cut(), err)
		}
	}
}

func TestChunksRefuse(t *testing.T) {
	entry := tapefile.AppendChunkHeader(nil, [32]byte{1}, 5)
	for _, tc := range []struct {
		name  string
		spoil func([]byte)
	}{
		{"a foreign magic", func(b []byte) { b[0] ^= 1 }},
		{"a blob that no chunk can have", func(b []byte) { b[44] = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := append(bytes.Clone(entry), "hello"...)
			tc.spoil(b)
			_, _, err := tapefile.NewChunkReader(bytes.NewReader(b)).Next(nil)
			if !errors.Is(err, tapefile.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}
