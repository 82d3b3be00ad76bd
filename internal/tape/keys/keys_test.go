package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/paperkey"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

const (
	goldenPrint = "0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b"
	goldenHex   = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	goldenList  = "[\n  {\n    \"fingerprint\": \"" + goldenPrint + "\",\n    \"key\": \"" + goldenHex + "\"\n  }\n]"
)

var (
	mediaSet = uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")
	now      = time.Date(2023, 11, 14, 23, 13, 20, 0, time.FixedZone("CET", 3600))
	locked   = Lock{KDF: keyfile.KDFPBKDF2, Password: []byte("correct-horse"), Hint: "the <usual>"}
)

func goldenKey(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	var raw [chunkcrypt.KeySize]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	k, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// directory is one with the golden key in the file for drives.
func directory(t testing.TB, plain string) Store {
	t.Helper()
	dir := t.TempDir()
	if plain != "" {
		if err := os.WriteFile(filepath.Join(dir, "tape-encryption-keys.json"), []byte(plain), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return New(confdir.New(dir))
}

func (s Store) read(t *testing.T, f confdir.File) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir.Path(), f.Name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDriveGetsTheGoldenKeyOfAMediaSet(t *testing.T) {
	s := directory(t, goldenList)
	f := goldenKey(t).Fingerprint()
	if f.String() != goldenPrint {
		t.Fatalf("fingerprint %s", f)
	}
	d, err := s.DataKey(tape.KeyOf{Fingerprint: f, MediaSet: mediaSet})
	if err != nil {
		t.Fatal(err)
	}
	raw := d.Bytes()
	if got := hex.EncodeToString(raw[:]); got != "cbcebebbdf94e64f41dd864687afe8ea19742b1db528263cd3a32e2f26eeffce" {
		t.Fatalf("drive key %s", got)
	}
	if other, err := s.DataKey(tape.KeyOf{Fingerprint: f, MediaSet: uuid.New()}); err != nil || other == d {
		t.Fatal("two media sets share a key", err)
	}
	if _, err := s.DataKey(tape.KeyOf{MediaSet: mediaSet}); !errors.Is(err, repo.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestNewKeyIsInBothFilesAndOpensWithItsPassword(t *testing.T) {
	s := directory(t, goldenList)
	f, err := s.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.read(t, confdir.TapeKeys); !strings.HasPrefix(got, strings.TrimSuffix(goldenList, "\n]")+",\n  {\n    \"fingerprint\": \""+f.String()) {
		t.Fatalf("the file for drives is\n%s", got)
	}
	text := s.read(t, confdir.TapeKeyFiles)
	if !strings.HasPrefix(text, "[\n  {\n    \"kdf\": {\n      \"PBKDF2\": {\n        \"iter\": 65535,") ||
		!strings.Contains(text, `"created": "2023-11-14T23:13:20+01:00"`) || !strings.HasSuffix(text, "\"hint\": \"the <usual>\"\n  }\n]") {
		t.Fatalf("the file with passwords is\n%s", text)
	}
	for file, mode := range map[string]os.FileMode{"tape-encryption-keys.json": 0o600, "tape-encryption-key-config.json": 0o640} {
		if info, err := os.Stat(filepath.Join(s.dir.Path(), file)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v", file, info.Mode(), err)
		}
	}
	k, err := s.File(f)
	if err != nil {
		t.Fatal(err)
	}
	key, created, err := k.Unlock(locked.Password)
	if err != nil || key.Fingerprint() != f || !created.Equal(now) {
		t.Fatal(created, err)
	}
	if _, err := s.DataKey(tape.KeyOf{Fingerprint: f}); err != nil {
		t.Fatal(err)
	}
}

func TestKeyComesBackFromATapeAndFromPaper(t *testing.T) {
	from := directory(t, "")
	f, err := from.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	k, err := from.File(f)
	if err != nil {
		t.Fatal(err)
	}
	onTape, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	indented, err := k.MarshalIndent()
	if err != nil {
		t.Fatal(err)
	}
	var paper bytes.Buffer
	if err := paperkey.Text(&paper, indented, "tapes"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"tape": onTape, "paper": paper.Bytes()} {
		t.Run(name, func(t *testing.T) {
			s := directory(t, "")
			if _, err := s.Import(t.Context(), text, []byte("wrong one")); !errors.Is(err, keyfile.ErrPassword) {
				t.Fatal(err)
			}
			if _, err := s.Import(t.Context(), text, nil); !errors.Is(err, keyfile.ErrNeedPassword) {
				t.Fatal(err)
			}
			got, err := s.Import(t.Context(), text, locked.Password)
			if err != nil || got != f {
				t.Fatal(got, err)
			}
			if _, err := s.Import(t.Context(), text, locked.Password); !errors.Is(err, ErrExists) {
				t.Fatal(err)
			}
			if s.read(t, confdir.TapeKeyFiles) != from.read(t, confdir.TapeKeyFiles) || s.read(t, confdir.TapeKeys) != from.read(t, confdir.TapeKeys) {
				t.Fatal("the files are other ones than at first")
			}
		})
	}
}

func TestImportGivesDrivesAKeyThatOnlyItsPasswordKnew(t *testing.T) {
	s := directory(t, "")
	f, err := s.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir.Path(), confdir.TapeKeys.Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DataKey(tape.KeyOf{Fingerprint: f}); !errors.Is(err, repo.ErrNotFound) {
		t.Fatal(err)
	}
	if err := s.ChangePassword(t.Context(), f, "", nil, locked, now); err == nil {
		t.Fatal("the password was reset without the key")
	}
	k, err := s.File(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), text, locked.Password); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DataKey(tape.KeyOf{Fingerprint: f}); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordChangesAndTheKeyStays(t *testing.T) {
	s := directory(t, "")
	f, err := s.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	second := Lock{keyfile.KDFPBKDF2, []byte("battery-staple"), ""}
	if err := s.ChangePassword(t.Context(), f, "", []byte("wrong one"), second, now.Add(time.Hour)); !errors.Is(err, keyfile.ErrPassword) {
		t.Fatal(err)
	}
	_, digest, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ChangePassword(t.Context(), f, digest.String(), locked.Password, second, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.ChangePassword(t.Context(), f, digest.String(), second.Password, locked, now); !errors.Is(err, confdir.ErrChanged) {
		t.Fatal(err)
	}
	opens := func(password []byte) {
		t.Helper()
		k, err := s.File(f)
		if err != nil {
			t.Fatal(err)
		}
		if key, created, err := k.Unlock(password); err != nil || key.Fingerprint() != f || !created.Equal(now) {
			t.Fatal(created, err)
		}
	}
	opens(second.Password)
	third := Lock{keyfile.KDFPBKDF2, []byte("forgot the last"), "hint"}
	if err := s.ChangePassword(t.Context(), f, "", nil, third, now); err != nil {
		t.Fatal(err)
	}
	opens(third.Password)
	if err := s.ChangePassword(t.Context(), f, "", nil, Lock{KDF: keyfile.KDFNone}, now); err == nil {
		t.Fatal("a tape key without password was made")
	}
	if err := s.ChangePassword(t.Context(), chunkcrypt.Fingerprint{1}, "", nil, third, now); !errors.Is(err, repo.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestRemovedKeyIsGoneFromBothFiles(t *testing.T) {
	s := directory(t, goldenList)
	f, err := s.Create(t.Context(), locked, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []chunkcrypt.Fingerprint{f, goldenKey(t).Fingerprint()} {
		if err := s.Remove(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), id, ""); !errors.Is(err, repo.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if a, b := s.read(t, confdir.TapeKeys), s.read(t, confdir.TapeKeyFiles); a != "[]" || b != "[]" {
		t.Fatalf("the files are %q and %q", a, b)
	}
}

func TestKeysThatDoNotFitAreRefusedAndNotQuoted(t *testing.T) {
	secret := goldenHex[2:]
	for name, text := range map[string]string{
		"another fingerprint": strings.Replace(goldenList, "0e:ab", "0e:ac", 1),
		"another key":         strings.Replace(goldenList, "000102", "000103", 1),
		"half a key":          strings.Replace(goldenList, goldenHex, goldenHex[:62], 1),
		"too much of a key":   strings.Replace(goldenList, goldenHex, goldenHex+"00", 1),
		"no key":              strings.Replace(goldenList, goldenHex, "", 1),
		"no hexadecimal":      strings.Replace(goldenList, "0001", "xx01", 1),
		"twice the same":      "[" + strings.Trim(goldenList, "[]") + "," + strings.Trim(goldenList, "[]") + "]",
		"no JSON":             strings.TrimSuffix(goldenList, "]"),
		"a number":            `[{"fingerprint":"` + goldenPrint + `","key":1}]`,
	} {
		t.Run(name, func(t *testing.T) {
			s := directory(t, text)
			_, err := s.DataKey(tape.KeyOf{Fingerprint: goldenKey(t).Fingerprint()})
			if !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), secret[2:20]) {
				t.Errorf("err = %v", err)
			}
			if _, err := s.Create(t.Context(), locked, now); !errors.Is(err, ErrFormat) {
				t.Errorf("and a new key: %v", err)
			}
			if got := s.read(t, confdir.TapeKeys); got != text {
				t.Errorf("the file changed to %s", got)
			}
		})
	}
}

func TestDataKeysDoNotPrintThemselves(t *testing.T) {
	d, err := directory(t, goldenList).DataKey(tape.KeyOf{Fingerprint: goldenKey(t).Fingerprint(), MediaSet: mediaSet})
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", d, d, d, d); strings.Contains(s, "cbce") || strings.Contains(s, "203") {
		t.Fatal(s)
	}
}

func FuzzParsePlain(f *testing.F) {
	f.Add([]byte(goldenList))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parsePlain(b)
		if err != nil {
			return
		}
		js, err := appendPlain(keys)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parsePlain(js); err != nil || len(again) != len(keys) {
			t.Fatal(len(again), err)
		}
	})
}

func FuzzParseFiles(f *testing.F) {
	text, err := keyfile.Create(goldenKey(f), keyfile.KDFPBKDF2, locked.Password, "hint", now, bytes.NewReader(make([]byte, 1024)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("[" + string(text) + "]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := parseFiles(b)
		if err != nil {
			return
		}
		js, err := appendFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseFiles(js); err != nil || len(again) != len(files) {
			t.Fatal(len(again), err)
		}
	})
}
