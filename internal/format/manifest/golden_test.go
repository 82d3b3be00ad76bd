package manifest_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
)

// vector is one entry of testdata/manifests.json. The first repeats a test of
// the upstream server, signature included; the others were computed by two
// independent programs.
type vector struct {
	Name      string
	Key       *string
	Canonical string
	Signature *string
	Text      string
	Blob      string `json:"blob-uncompressed"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/manifests.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Manifests []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Manifests) < 3 {
		t.Fatalf("%d manifests", len(file.Manifests))
	}
	return file.Manifests
}

// key returns the key of a vector, the key 00 01 .. 1f if it has none.
func (v vector) key(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	text := "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	if v.Key != nil {
		text = *v.Key
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := chunkcrypt.New([32]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestGoldenManifestsAreWrittenAsTheyWereRead(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			m := parse(t, v.Text)
			if got := marshal(t, m); got != v.Text {
				t.Errorf("got %s\nwant %s", got, v.Text)
			}
			if raw, err := hex.DecodeString(v.Blob); err != nil || string(raw[12:]) != v.Text {
				t.Errorf("the blob of the vector holds another text: %v", err)
			}
			canonical, err := m.Canonical()
			if err != nil || string(canonical) != v.Canonical {
				t.Errorf("canonical form\n got %s, %v\nwant %s", canonical, err, v.Canonical)
			}
			if m.Signed() != (v.Signature != nil) {
				t.Errorf("Signed = %v", m.Signed())
			}
			if err := m.Verify(v.key(t)); err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestManifestsBuiltFromFieldsGetTheGoldenSignature(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			read := parse(t, v.Text)
			m := &manifest.Manifest{BackupType: read.BackupType, BackupID: read.BackupID, BackupTime: read.BackupTime}
			for _, f := range read.Files {
				if err := m.Add(f); err != nil {
					t.Fatal(err)
				}
			}
			if v.Signature != nil {
				if err := m.Sign(v.key(t)); err != nil {
					t.Fatal(err)
				}
				if m.Signature != *v.Signature {
					t.Errorf("signature %s, want %s", m.Signature, *v.Signature)
				}
			}
			for _, key := range read.Keys() {
				if raw, ok := read.Raw(key); ok {
					if err := m.SetRaw(key, raw); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := marshal(t, m); got != v.Text {
				t.Errorf("got %s\nwant %s", got, v.Text)
			}
		})
	}
}

func TestWrongKeyAndWrongSignatureAreToldApart(t *testing.T) {
	v := vectors(t)[0]
	other := vector{}.key(t)
	m := parse(t, v.Text)
	if err := m.Verify(other); !errors.Is(err, manifest.ErrWrongKey) {
		t.Errorf("other key, fingerprint stored: %v, want ErrWrongKey", err)
	}
	if err := m.SetRaw("key-fingerprint", nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(other); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("other key, no fingerprint stored: %v, want ErrSignature", err)
	}
	if err := m.SetRaw("key-fingerprint", []byte(`"nonsense"`)); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(v.key(t)); !errors.Is(err, manifest.ErrFormat) {
		t.Errorf("unreadable fingerprint: %v, want ErrFormat", err)
	}
}

func parse(t testing.TB, text string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func marshal(t testing.TB, m *manifest.Manifest) string {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
