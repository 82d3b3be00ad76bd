package manifest_test

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

const sum = "abababababababababababababababababababababababababababababababab"

// smallest is the smallest legal manifest, in an order no writer uses and
// without what old writers left out.
const smallest = `{"files":[{"csum":"` + sum + `","size":30,"filename":"a.blob"}],"backup-time":0,"backup-id":"x","backup-type":"ct"}`

func TestOldManifestReadsAsUnsignedWithoutEncryption(t *testing.T) {
	m := parse(t, smallest)
	f, ok := m.File("a.blob")
	if !ok || f.CryptMode != manifest.ModeNone || f.Size != 30 || f.Csum.String() != sum || f.Archive().Kind() != names.Blob {
		t.Errorf("file %+v, %v", f, ok)
	}
	if m.Signed() || m.Notes() != "" || m.VerifyState() != nil || m.UploadStats() != nil || len(m.Keys()) != 0 {
		t.Errorf("got %+v", m)
	}
	if fp, err := m.KeyFingerprint(); err != nil || !fp.IsZero() {
		t.Errorf("fingerprint %s, %v", fp, err)
	}
	if _, ok := m.File("b.blob"); ok {
		t.Error("finds a file that is not listed")
	}
	text := marshal(t, m)
	if strings.Contains(text, "crypt-mode") || !strings.Contains(text, `"signature": null`) || !strings.Contains(text, `"unprotected": {}`) {
		t.Errorf("written as %s", text)
	}
}

func TestUnknownFieldsSurviveWithTheirExactValues(t *testing.T) {
	const text = `{
  "backup-id": "x",
  "backup-time": 1,
  "backup-type": "vm",
  "files": [
    {
      "csum": "` + sum + `",
      "extra": [
        18446744073709551615
      ],
      "filename": "a.blob",
      "size": 9223372036854775807
    }
  ],
  "future": "<&> /",
  "signature": null,
  "unprotected": {
    "big": 123456789012345678901234567890,
    "float": 1.50,
    "notes": 7,
    "nothing": null,
    "object": {
      "a": [],
      "b": {}
    }
  }
}`
	m := parse(t, text)
	if got := marshal(t, m); got != text {
		t.Errorf("got %s", got)
	}
	m.SetNotes("changed")
	if got, want := marshal(t, m), strings.Replace(text, `"notes": 7`, `"notes": "changed"`, 1); got != want {
		t.Errorf("got %s", got)
	}
}

// Other programs write them in forms of their own: kept, and never good.
func TestSignatureOfAnotherFormIsKeptAndWrong(t *testing.T) {
	k := vector{}.key(t)
	for _, text := range []string{"ab", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", strings.Repeat("0", 64)} {
		m := parse(t, strings.Replace(smallest, `"files"`, `"signature":"`+text+`","files"`, 1))
		if err := m.Verify(k); !errors.Is(err, manifest.ErrSignature) || !m.Signed() {
			t.Errorf("%s: %v", text, err)
		}
		m.SetNotes("an update")
		if got := parse(t, marshal(t, m)).Signature; got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// A signature covers the object as it was read: unknown fields as version 3
// sees them, absent crypt modes as old clients wrote them.
func TestSignatureCoversTheObjectAsItWasRead(t *testing.T) {
	k := vector{}.key(t)
	canonical := `{"backup-id":"x","backup-time":1,"backup-type":"vm","files":[{"csum":"` + sum + `","filename":"a.blob","size":3}],"future":true}`
	tag := k.Sign([]byte(canonical))
	text := strings.TrimSuffix(canonical, "}") + `,"signature":"` + hex.EncodeToString(tag[:]) + `","unprotected":{}}`
	m := parse(t, text)
	if err := m.Verify(k); err != nil {
		t.Fatal(err)
	}
	m.SetNotes("an update")
	if err := parse(t, marshal(t, m)).Verify(k); err != nil {
		t.Fatalf("after an update: %v", err)
	}
	for _, tc := range []struct{ old, text string }{
		{`"future":true`, `"future":false`},
		{`,"future":true`, ``},
		{`"size":3`, `"size":4`},
		{`"size":3`, `"size":3,"x":null`},
		{`"backup-time":1`, `"backup-time":2`},
	} {
		m := parse(t, strings.Replace(text, tc.old, tc.text, 1))
		if err := m.Verify(k); !errors.Is(err, manifest.ErrSignature) {
			t.Errorf("%s instead of %s: %v, want ErrSignature", tc.text, tc.old, err)
		}
	}
	// Signing anew drops what servers disagree on.
	if err := m.Sign(k); err != nil {
		t.Fatal(err)
	}
	got := marshal(t, m)
	if strings.Contains(got, "future") || !strings.Contains(got, `"crypt-mode": "none"`) {
		t.Errorf("signed anew: %s", got)
	}
	if err := parse(t, got).Verify(k); err != nil {
		t.Error(err)
	}
}

func TestChangeAfterSigningIsNoticed(t *testing.T) {
	k := vector{}.key(t)
	m := build(t)
	if err := m.Sign(k); err != nil {
		t.Fatal(err)
	}
	m.Files[0].Size++
	if err := m.Verify(k); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := m.Marshal(); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("Marshal: %v", err)
	}
	if err := m.Sign(k); err != nil {
		t.Fatal(err)
	}
	if err := parse(t, marshal(t, m)).Verify(k); err != nil {
		t.Error(err)
	}
}

func TestUnsignedManifestPassesAnyKey(t *testing.T) {
	if err := build(t).Verify(vector{}.key(t)); err != nil {
		t.Fatal(err)
	}
}

func TestUnprotectedValuesComeBack(t *testing.T) {
	m := build(t)
	task := upid.New("pbs", 1, time.Unix(4, 0), "verify", "store1:ct/1", "root@pam").String()
	state := manifest.VerifyState{State: manifest.VerifyFailed, UPID: task}
	stats := manifest.UploadStats{Count: 1, Size: 1<<64 - 1, CompressedSize: 3, Duplicates: 4}
	m.SetNotes("first line\nsecond \"é\" \u2028 \xff")
	m.SetVerifyState(state)
	m.SetUploadStats(stats)
	for _, m := range []*manifest.Manifest{m, parse(t, marshal(t, m))} {
		if got, want := m.Notes(), "first line\nsecond \"é\" \u2028 \uFFFD"; got != want {
			t.Errorf("notes %q, want %q", got, want)
		}
		if m.Comment() != "first line" {
			t.Errorf("comment %q", m.Comment())
		}
		if got := m.VerifyState(); got == nil || *got != state {
			t.Errorf("verify state %+v, want %+v", got, state)
		}
		if got := m.UploadStats(); got == nil || *got != stats {
			t.Errorf("upload stats %+v, want %+v", got, stats)
		}
		m.SetNotes("")
		if _, ok := m.Raw("notes"); ok || m.Notes() != "" {
			t.Error("empty notes leave a key behind")
		}
	}
}

func TestUnreadableStateCountsAsNone(t *testing.T) {
	for _, text := range []string{
		`null`, `"ok"`, `{}`, `{"state":"ok"}`, `{"state":"ok","upid":"UPID:x"}`, `{"state":"ok","upid":7}`,
		`{"state":"fine","upid":"UPID:pbs:00000001:00000002:00000003:00000004:verify::root@pam:"}`,
	} {
		m := build(t)
		if err := m.SetRaw("verify_state", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := m.VerifyState(); got != nil {
			t.Errorf("%s reads as %+v", text, got)
		}
	}
	for _, text := range []string{`null`, `{}`, `{"count":-1,"size":1,"compressed_size":1,"duplicates":1}`, `{"count":1.5,"size":1,"compressed_size":1,"duplicates":1}`} {
		m := build(t)
		if err := m.SetRaw("chunk_upload_stats", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := m.UploadStats(); got != nil {
			t.Errorf("%s reads as %+v", text, got)
		}
	}
}

func TestSetRawRefusesWhatCouldNotBeWritten(t *testing.T) {
	m := build(t)
	for _, tc := range []struct{ key, text string }{{"x", ""}, {"x", "{"}, {"x", "1 2"}, {"\xff", "1"}} {
		if err := m.SetRaw(tc.key, []byte(tc.text)); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("key %q, text %q: %v", tc.key, tc.text, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, old, text string }{
		{"no JSON", "{", ""},
		{"something behind it", `"ct"}`, `"ct"} {}`},
		{"no type", `"backup-type":"ct"`, `"x":"ct"`},
		{"unknown type", `"ct"`, `"qemu"`},
		{"id that leaves the directory", `"x"`, `"../x"`},
		{"id that is a number", `"x"`, `1`},
		{"time as text", `"backup-time":0`, `"backup-time":"0"`},
		{"time as float", `"backup-time":0`, `"backup-time":0.0`},
		{"time after the last year", `"backup-time":0`, `"backup-time":253402300800`},
		{"time beyond 64 bits", `"backup-time":0`, `"backup-time":9223372036854775808`},
		{"no files", `"files"`, `"file"`},
		{"files null", `"files":[`, `"files":null,"x":[`},
		{"file that is no object", `"files":[`, `"files":[1,`},
		{"file name that is no archive", "a.blob", "a.img"},
		{"file name with a path", "a.blob", "../a.blob"},
		{"manifest lists itself", "a.blob", "index.json.blob"},
		{"crypt mode unknown", `"size":30`, `"size":30,"crypt-mode":"aes"`},
		{"crypt mode null", `"size":30`, `"size":30,"crypt-mode":null`},
		{"size negative", `"size":30`, `"size":-1`},
		{"size beyond 63 bits", `"size":30`, `"size":9223372036854775808`},
		{"size as text", `"size":30`, `"size":"30"`},
		{"size absent", `"size":30`, `"x":30`},
		{"checksum short", sum, sum[1:]},
		{"checksum absent", `"csum"`, `"sum"`},
		{"signature as number", `"files"`, `"signature":1,"files"`},
		{"unprotected null", `"files"`, `"unprotected":null,"files"`},
		{"unprotected array", `"files"`, `"unprotected":[],"files"`},
		{"key twice", `"files"`, `"backup-id":"y","files"`},
		{"file twice", `"files":[`, `"files":[{"csum":"` + sum + `","size":1,"filename":"a.blob"},`},
		{"huge", `"files"`, strings.Repeat(" ", manifest.MaxSize) + `"files"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(smallest, tc.old, tc.text, 1)
			if text == smallest {
				t.Fatal("the case changes nothing")
			}
			if m, err := manifest.Parse([]byte(text)); !errors.Is(err, manifest.ErrFormat) {
				t.Fatalf("got %+v, %v, want ErrFormat", m, err)
			}
		})
	}
	if _, err := manifest.Parse([]byte(`[]`)); !errors.Is(err, manifest.ErrFormat) {
		t.Errorf("array: %v", err)
	}
}

func TestMarshalRefusesWhatParseWould(t *testing.T) {
	for _, spoil := range []func(*manifest.Manifest){
		func(m *manifest.Manifest) { m.BackupType = "" },
		func(m *manifest.Manifest) { m.BackupID = "a/b" },
		func(m *manifest.Manifest) { m.BackupTime = 1 << 60 },
		func(m *manifest.Manifest) { m.Files[0].Filename = "x" },
		func(m *manifest.Manifest) { m.Files[0].CryptMode = "" },
		func(m *manifest.Manifest) { m.Files[0].Size = 1 << 63 },
		func(m *manifest.Manifest) { m.Files = append(m.Files, m.Files[0]) },
	} {
		m := build(t)
		spoil(m)
		if b, err := m.Marshal(); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("got %s, %v", b, err)
		}
		if err := m.Sign(vector{}.key(t)); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("Sign: %v", err)
		}
	}
	m := build(t)
	if err := m.Add(m.Files[0]); !errors.Is(err, manifest.ErrFormat) || len(m.Files) != 1 {
		t.Errorf("Add of a file that is there: %v", err)
	}
}

func TestManifestKnowsItsSnapshot(t *testing.T) {
	s := names.Snapshot{NS: "a", Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717597476}
	m := build(t)
	if !m.Describes(s) {
		t.Error("does not describe its snapshot")
	}
	s.Time++
	if m.Describes(s) {
		t.Error("describes a later snapshot")
	}
}

func build(t testing.TB) *manifest.Manifest {
	t.Helper()
	m := manifest.New(names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717597476})
	err := m.Add(manifest.File{Filename: "drive-scsi0.img.fidx", CryptMode: manifest.ModeEncrypt, Size: 1 << 40, Csum: digest.Of(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add([]byte(v.Text))
	}
	f.Add([]byte(smallest))
	k := vector{}.key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Parse(b)
		if err != nil {
			if !errors.Is(err, manifest.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
			return
		}
		text, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.Parse(text)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("does not survive a round trip: %s, %v", text, err)
		}
		before, errBefore := m.Canonical()
		after, errAfter := again.Canonical()
		if string(before) != string(after) || (errBefore == nil) != (errAfter == nil) {
			t.Fatalf("the signed part changed from %s to %s", before, after)
		}
		if err := m.Sign(k); err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(k); err != nil {
			t.Fatal(err)
		}
	})
}
