package libvirt

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const testUUID = "0b1c2d3e-0000-4000-8000-000000000001"

// packed is a tar of one entry.
func packed(t testing.TB, h tar.Header, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h.Size = int64(len(data))
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStateOfATPMSurvivesARoundTrip(t *testing.T) {
	for _, version := range []string{"1.2", "2.0"} {
		base := t.TempDir()
		dir := tpmDir(base, testUUID, version)
		if err := os.MkdirAll(filepath.Join(dir, "directory"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]string{"permall": "secret", ".lock": "", "volatile": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := tarTPM(base, testUUID, version)
		if err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		if err := untarTPM(text, other, testUUID, version); err != nil {
			t.Fatal(err)
		}
		again, err := tarTPM(other, testUUID, version)
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("it is another state now, %v", err)
		}
		if err := untarTPM(text, other, testUUID, version); err == nil {
			t.Error("a state that is there is overwritten")
		}
	}
}

func TestDomainThatNeverRanHasNoStateOfATPM(t *testing.T) {
	if text, err := tarTPM(t.TempDir(), testUUID, "2.0"); text != nil || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestArchiveOfATPMReachesNothingElse(t *testing.T) {
	for _, h := range []tar.Header{
		{Name: "../out"},
		{Name: "/out"},
		{Name: "a/b"},
		{Name: ".."},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		{Name: "dir", Typeflag: tar.TypeDir},
	} {
		data := "x"
		if h.Typeflag != 0 && h.Typeflag != tar.TypeReg {
			data = ""
		}
		base := t.TempDir()
		if err := untarTPM(packed(t, h, data), base, testUUID, "2.0"); err == nil {
			t.Errorf("%+v is taken", h)
		}
	}
}

// Whatever the archive is, only regular files in the one directory come of it.
func FuzzUntarTPM(f *testing.F) {
	f.Add(packed(f, tar.Header{Name: "permall"}, "secret"))
	f.Add(packed(f, tar.Header{Name: "../x"}, "secret"))
	f.Fuzz(func(t *testing.T, text []byte) {
		base := t.TempDir()
		_ = untarTPM(text, base, testUUID, "2.0") // any refusal is fine
		err := filepath.Walk(base, func(path string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() && (filepath.Dir(path) != tpmDir(base, testUUID, "2.0") || !info.Mode().IsRegular()) {
				t.Errorf("%s was made", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
