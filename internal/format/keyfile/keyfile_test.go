package keyfile_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
)

var now = time.Unix(1717597476, 0).In(time.FixedZone("", -5400))

func TestCreatedFilesOpenWithTheirPassword(t *testing.T) {
	k := testKey(t)
	for _, kdf := range []keyfile.KDF{keyfile.KDFNone, keyfile.KDFScrypt, keyfile.KDFPBKDF2} {
		t.Run(string(kdf), func(t *testing.T) {
			pass, hint := []byte("12345"), `<&> "quoted"`
			if kdf == keyfile.KDFNone {
				pass, hint = nil, ""
			}
			text, err := keyfile.Create(k, kdf, pass, hint, now, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`{"kdf":`, `"created":"2024-06-05T12:54:36-01:30","modified":`, `"fingerprint":"` + k.Fingerprint().String()} {
				if !strings.Contains(string(text), want) {
					t.Errorf("%s lacks %s", text, want)
				}
			}
			f := parse(t, text)
			got, created, err := f.Unlock(pass)
			if err != nil || !got.Equal(k) || !created.Equal(now) || f.Hint != hint || f.KDF() != kdf {
				t.Errorf("created %v, hint %q, kdf %s, %v", created, f.Hint, f.KDF(), err)
			}
			if kdf != keyfile.KDFNone {
				if _, _, err := f.Unlock([]byte("12346")); !errors.Is(err, keyfile.ErrPassword) {
					t.Errorf("wrong password: %v", err)
				}
			}
		})
	}
}

func TestChangeOfPasswordKeepsTheCreation(t *testing.T) {
	k := testKey(t)
	text, err := keyfile.Create(k, keyfile.KDFPBKDF2, []byte("first"), "", now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(time.Hour)
	if _, err := parse(t, text).Change([]byte("wrong"), keyfile.KDFNone, nil, "", later, rand.Reader); !errors.Is(err, keyfile.ErrPassword) {
		t.Errorf("wrong old password: %v", err)
	}
	changed, err := parse(t, text).Change([]byte("first"), keyfile.KDFPBKDF2, []byte("second"), "a hint", later, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, changed)
	got, created, err := f.Unlock([]byte("second"))
	if err != nil || !got.Equal(k) || !created.Equal(now) || !f.Modified.Equal(later) || f.Hint != "a hint" {
		t.Errorf("created %v, modified %v, hint %q, %v", created, f.Modified, f.Hint, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	k := testKey(t)
	for _, tc := range []struct {
		name     string
		kdf      keyfile.KDF
		password string
		hint     string
		rand     io.Reader
	}{
		{"short password", keyfile.KDFScrypt, "1234", "", rand.Reader},
		{"no password", keyfile.KDFPBKDF2, "", "", rand.Reader},
		{"hint without kdf", keyfile.KDFNone, "", "hint", rand.Reader},
		{"password without kdf", keyfile.KDFNone, "12345", "", rand.Reader},
		{"unknown kdf", "argon2", "12345", "", rand.Reader},
		{"long hint", keyfile.KDFPBKDF2, "12345", strings.Repeat("é", 65), rand.Reader},
		{"hint with a control character", keyfile.KDFPBKDF2, "12345", "a\nb", rand.Reader},
		{"hint that is not UTF-8", keyfile.KDFPBKDF2, "12345", "\xff", rand.Reader},
		{"no random bytes for the salt", keyfile.KDFPBKDF2, "12345", "", iotest.ErrReader(io.ErrClosedPipe)},
		{"no random bytes for the IV", keyfile.KDFPBKDF2, "12345", "", io.LimitReader(rand.Reader, 32)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if text, err := keyfile.Create(k, tc.kdf, []byte(tc.password), tc.hint, now, tc.rand); err == nil {
				t.Fatalf("created %s", text)
			}
		})
	}
	if _, err := keyfile.ParseKDF("Scrypt"); err == nil {
		t.Error("the name of the file is accepted for that of the API")
	}
	if err := keyfile.CheckHint(strings.Repeat("é", 64)); err != nil {
		t.Error(err)
	}
}

const (
	plain  = `{"kdf":null,"created":"2024-06-05T16:24:36+02:00","modified":"2024-06-05T14:24:36Z","data":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`
	sealed = `{"kdf":{"Scrypt":{"n":65536,"r":8,"p":1,"salt":""}},"created":"2024-06-05T16:24:36+02:00","modified":"2024-06-05T14:24:36Z","data":"` +
		`yMnKy8zNzs/Q0dLT1NXW12I1kJ5JPIRZmcLKjzxdTqCfTiyj8AbS7LjSLPB2ftoTwC4IuNttwo96zIOV8oX0Hg=="}`
)

func TestOldFileWithoutFingerprintOpens(t *testing.T) {
	f := parse(t, []byte(plain+"\n"))
	k, _, err := f.Unlock([]byte("not looked at"))
	if err != nil || !k.Equal(testKey(t)) || !f.Fingerprint.IsZero() {
		t.Fatalf("%v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, from, old, text string }{
		{"no JSON", plain, "{", ""},
		{"kdf by the name of the API", plain, "null", `"none"`},
		{"kdf unknown", sealed, "Scrypt", "Argon2"},
		{"two kdfs", sealed, `{"Scrypt"`, `{"PBKDF2":{},"Scrypt"`},
		{"kdf without object", sealed, `{"n":65536,"r":8,"p":1,"salt":""}`, "1"},
		{"n not a power of two", sealed, "65536", "65535"},
		{"n of one", sealed, "65536", "1"},
		{"n zero", sealed, "65536", "0"},
		{"n negative", sealed, "65536", "-65536"},
		{"n a float", sealed, "65536", "65536.0"},
		{"n a string", sealed, "65536", `"65536"`},
		{"n absent", sealed, `"n"`, `"m"`},
		{"r zero", sealed, `"r":8`, `"r":0`},
		{"p zero", sealed, `"p":1`, `"p":0`},
		{"memory above the ceiling", sealed, "65536", "2097152"},
		{"memory above the ceiling by p", sealed, `"p":1`, `"p":17`},
		{"memory that overflows", sealed, `"n":65536,"r":8,"p":1`, `"n":1073741824,"r":1073741824,"p":1073741824`},
		{"n beyond 64 bits", sealed, "65536", "36893488147419103232"},
		{"too many rounds", sealed, `"Scrypt":{"n":65536,"r":8,"p":1`, `"PBKDF2":{"iter":10000001`},
		{"no rounds", sealed, `"Scrypt":{"n":65536,"r":8,"p":1`, `"PBKDF2":{"iter":0`},
		{"salt absent", sealed, `"salt"`, `"salz"`},
		{"salt no base64", sealed, `"salt":""`, `"salt":"A"`},
		{"no creation time", plain, `"created"`, `"create"`},
		{"time without offset", plain, "+02:00", ""},
		{"modified a number", plain, `"2024-06-05T14:24:36Z"`, "1717597476"},
		{"data absent", plain, `"data"`, `"date"`},
		{"data without padding", plain, "Hh8=", "Hh8"},
		{"data of the other kdf", plain, "null", `{"PBKDF2":{"iter":1,"salt":""}}`},
		{"sealed data without kdf", sealed, `{"Scrypt":{"n":65536,"r":8,"p":1,"salt":""}}`, "null"},
		{"fingerprint short", plain, "{", `{"fingerprint":"00:11",`},
		{"fingerprint a number", plain, "{", `{"fingerprint":1,`},
		{"hint a number", plain, "{", `{"hint":1,`},
		{"key twice", plain, "{", `{"kdf":null,`},
		{"huge", plain, "{", "{" + strings.Repeat(" ", keyfile.MaxSize)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(tc.from, tc.old, tc.text, 1)
			if text == tc.from {
				t.Fatal("the case changes nothing")
			}
			if f, err := keyfile.Parse([]byte(text)); !errors.Is(err, keyfile.ErrFormat) {
				t.Fatalf("got %v, %v, want ErrFormat", f, err)
			} else if strings.Contains(err.Error(), "AAECAw") {
				t.Fatalf("the error shows the key: %v", err)
			}
		})
	}
}

func TestCeilingItselfIsAccepted(t *testing.T) {
	for _, text := range []string{
		strings.Replace(sealed, "65536", "1048576", 1), // 1024 MiB
		strings.Replace(sealed, `"p":1`, `"p":16`, 1),
		strings.Replace(sealed, `"Scrypt":{"n":65536,"r":8,"p":1`, `"PBKDF2":{"iter":10000000`, 1),
	} {
		parse(t, []byte(text))
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	f := parse(t, []byte(plain))
	secret := "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %x %d %v", f, f, f, f, f, f, *f) + string(j)
	for _, s := range []string{secret, string(raw), fmt.Sprintf("%x", raw), fmt.Sprint(raw)} {
		if strings.Contains(out, s) {
			t.Fatalf("the key is in %q", out)
		}
	}
}

func TestHostileHintIsQuotedAndCut(t *testing.T) {
	hint, err := json.Marshal("\x1b[2J" + strings.Repeat("x", 1000))
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, []byte(strings.Replace(sealed, "{", `{"hint":`+string(hint)+`,`, 1)))
	if _, _, err := f.Unlock(nil); err == nil || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 300 {
		t.Fatalf("%q", err)
	}
}

func TestIndentedFormIsTheSameFile(t *testing.T) {
	f := parse(t, []byte(sealed))
	text, err := f.MarshalIndent()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "{\n  \"kdf\": {\n    \"Scrypt\": {\n") {
		t.Errorf("got %s", text)
	}
	if again := parse(t, text); !reflect.DeepEqual(again, f) {
		t.Errorf("%s is another file", text)
	}
}

func parse(t testing.TB, text []byte) *keyfile.File {
	t.Helper()
	f, err := keyfile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func FuzzParse(f *testing.F) {
	for _, tc := range readGolden(f).KeyFiles {
		f.Add([]byte(tc.Text))
	}
	f.Add([]byte(plain))
	f.Add([]byte(sealed))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := keyfile.Parse(b)
		if err != nil {
			return
		}
		text, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := keyfile.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		text2, err := again.Marshal()
		if err != nil || string(text2) != string(text) {
			t.Fatalf("%s does not survive a round trip: %s, %v", text, text2, err)
		}
	})
}
