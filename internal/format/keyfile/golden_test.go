package keyfile_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
)

// golden is testdata/key-files.json, computed by two independent programs. The
// fingerprint of its key is the one that the upstream tests assert.
type golden struct {
	KeyFiles []struct {
		Name        string
		Passphrase  *string
		Key         string
		Fingerprint string
		Created     int64 `json:"created-epoch"`
		Text        string
	} `json:"key-files"`
	Invalid []struct {
		Name, Text string
		Passphrase *string
	}
	RSA struct {
		Private    string `json:"private-key-pkcs8-der-base64"`
		Plaintext  string
		Ciphertext string
		Blob       string         `json:"blob-file-rsa-encrypted.key.blob"`
		Room       map[string]int `json:"max-plaintext-by-modulus-bits"`
	}
}

func readGolden(t testing.TB) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/key-files.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil || len(g.KeyFiles) < 3 || len(g.Invalid) < 3 {
		t.Fatalf("%d files, %d refusals, %v", len(g.KeyFiles), len(g.Invalid), err)
	}
	return g
}

func password(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// masterKey is the TEST key of the vectors.
func masterKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(readGolden(t).RSA.Private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*rsa.PrivateKey)
}

func TestGoldenKeyFilesOpenAndAreWrittenAsTheyWereRead(t *testing.T) {
	for _, tc := range readGolden(t).KeyFiles {
		t.Run(tc.Name, func(t *testing.T) {
			f, err := keyfile.Parse([]byte(tc.Text))
			if err != nil {
				t.Fatal(err)
			}
			if string(f.KDF()) != tc.Name {
				t.Errorf("kdf %s", f.KDF())
			}
			k, created, err := f.Unlock(password(tc.Passphrase))
			if err != nil {
				t.Fatal(err)
			}
			raw := k.Reveal()
			if !bytes.Equal(raw[:], unhex(t, tc.Key)) || k.Fingerprint().String() != tc.Fingerprint || created.Unix() != tc.Created {
				t.Errorf("key with fingerprint %s of %v", k.Fingerprint(), created)
			}
			if got, err := f.Marshal(); err != nil || string(got) != tc.Text {
				t.Errorf("got  %s, %v\nwant %s", got, err, tc.Text)
			}
			if tc.Passphrase != nil {
				if _, _, err := f.Unlock(nil); !errors.Is(err, keyfile.ErrNeedPassword) {
					t.Errorf("without password: %v", err)
				}
			}
		})
	}
}

func TestGoldenRefusals(t *testing.T) {
	want := map[string]error{
		"wrong-fingerprint": keyfile.ErrFingerprint,
		"wrong-passphrase":  keyfile.ErrPassword,
		"short-passphrase":  keyfile.ErrPassword,
	}
	for _, tc := range readGolden(t).Invalid {
		f, err := keyfile.Parse([]byte(tc.Text))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = f.Unlock(password(tc.Passphrase))
		if want[tc.Name] == nil || !errors.Is(err, want[tc.Name]) {
			t.Errorf("%s: %v, want %v", tc.Name, err, want[tc.Name])
		}
		if f.Hint != "" && !strings.Contains(err.Error(), f.Hint) {
			t.Errorf("%s: %v does not show the hint", tc.Name, err)
		}
	}
}

func TestGoldenMasterKeyCase(t *testing.T) {
	g := readGolden(t)
	priv := masterKey(t)
	k, created, err := keyfile.DecryptWithMaster(priv, unhex(t, g.RSA.Ciphertext))
	if err != nil {
		t.Fatal(err)
	}
	if k.Fingerprint().String() != g.KeyFiles[0].Fingerprint || created.Unix() != g.KeyFiles[0].Created {
		t.Errorf("recovered key %s of %v", k.Fingerprint(), created)
	}
	if !bytes.HasSuffix(unhex(t, g.RSA.Blob), unhex(t, g.RSA.Ciphertext)) {
		t.Error("the blob of the vector holds something else")
	}
	sealed, err := keyfile.EncryptToMaster(&priv.PublicKey, k, created)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the format demands this padding
	text, err := rsa.DecryptPKCS1v15(nil, priv, sealed)
	if err != nil || string(text) != g.RSA.Plaintext {
		t.Errorf("sealed text %s, %v\nwant %s", text, err, g.RSA.Plaintext)
	}
	if bits := priv.N.BitLen(); g.RSA.Room["4096"] != priv.Size()-11 || bits != 4096 {
		t.Errorf("room of %d bytes in %d bits", priv.Size()-11, bits)
	}
}

func testKey(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte(unhex(t, readGolden(t).KeyFiles[0].Key)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
