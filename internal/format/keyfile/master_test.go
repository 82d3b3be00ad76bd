package keyfile_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
)

var pass = []byte("correct horse")

func TestGeneratedMasterKeyRecoversAKey(t *testing.T) {
	private, public, err := keyfile.GenerateMaster(pass)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := keyfile.ParsePublicPEM(public)
	if err != nil || pub.N.BitLen() != 4096 {
		t.Fatalf("public key: %v", err)
	}
	sealed, err := keyfile.EncryptToMaster(pub, testKey(t), now)
	if err != nil || len(sealed) != 512 {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	priv, err := keyfile.ParsePrivatePEM(private, pass)
	if err != nil {
		t.Fatal(err)
	}
	k, created, err := keyfile.DecryptWithMaster(priv, sealed)
	if err != nil || !k.Equal(testKey(t)) || !created.Equal(now) {
		t.Fatalf("recovered a key of %v, %v", created, err)
	}
	if _, _, err := keyfile.DecryptWithMaster(masterKey(t), sealed); !errors.Is(err, keyfile.ErrFormat) {
		t.Errorf("with another master key: %v", err)
	}
	if _, _, err := keyfile.DecryptWithMaster(priv, sealed[:511]); !errors.Is(err, keyfile.ErrFormat) {
		t.Errorf("cut short: %v", err)
	}
}

func TestPrivateKeyNeedsTheRightPassword(t *testing.T) {
	text, err := keyfile.MarshalPrivatePEM(masterKey(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.ParsePrivatePEM(text, nil); !errors.Is(err, keyfile.ErrNeedPassword) {
		t.Errorf("no password: %v", err)
	}
	for _, wrong := range []string{"", "correct horsf", "x"} {
		if _, err := keyfile.ParsePrivatePEM(text, []byte(wrong)); !errors.Is(err, keyfile.ErrPassword) {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
	if got, err := keyfile.ParsePrivatePEM(text, pass); err != nil || !got.Equal(masterKey(t)) {
		t.Errorf("right password: %v", err)
	}
	if _, _, err := keyfile.GenerateMaster([]byte("1234")); err == nil {
		t.Error("a short password is accepted for a new master key")
	}
}

func TestSmallMasterKeyIsRefusedWithAReason(t *testing.T) {
	small := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 65537}
	_, err := keyfile.EncryptToMaster(small, testKey(t), now)
	if err == nil || !strings.Contains(err.Error(), "2048 bits") || !strings.Contains(err.Error(), "3072") {
		t.Fatalf("err = %v", err)
	}
}

func TestPEMFilesAreRefused(t *testing.T) {
	private, err := keyfile.MarshalPrivatePEM(masterKey(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyfile.MarshalPublicPEM(&masterKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(private)
	cut := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:len(block.Bytes)-16]})
	longer := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: append(bytes.Clone(block.Bytes), 0)})
	// 600000 rounds are 02 03 09 27 c0; more than the ceiling is 02 04 7f ...
	hang := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bytes.Replace(block.Bytes, []byte{2, 3, 9, 0x27, 0xc0}, []byte{2, 3, 0x7f, 0xff, 0xff}, 1)})
	fast := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bytes.Replace(block.Bytes, []byte{2, 3, 9, 0x27, 0xc0}, []byte{2, 3, 0xff, 0xff, 0xff}, 1)})
	other := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bytes.Replace(block.Bytes, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5}, 1)})
	for name, text := range map[string][]byte{
		"nothing":         nil,
		"no PEM":          []byte("x"),
		"public key":      public,
		"cut":             cut,
		"longer":          longer,
		"negative rounds": fast,
		"unknown PRF":     other,
		"huge":            append(bytes.Repeat([]byte("\n"), keyfile.MaxSize), private...),
		"old encryption":  []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
	} {
		if _, err := keyfile.ParsePrivatePEM(text, pass); !errors.Is(err, keyfile.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
	if _, err := keyfile.ParsePrivatePEM(hang, pass); !errors.Is(err, keyfile.ErrPassword) {
		t.Errorf("other rounds: %v", err)
	}
	for name, text := range map[string][]byte{"nothing": nil, "private key": private, "certificate": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "no key inside": []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")} {
		if _, err := keyfile.ParsePublicPEM(text); !errors.Is(err, keyfile.ErrFormat) {
			t.Errorf("public, %s: %v, want ErrFormat", name, err)
		}
	}
}

func TestOpenSSLReadsWhatWeWrite(t *testing.T) {
	private, err := keyfile.MarshalPrivatePEM(masterKey(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyfile.MarshalPublicPEM(&masterKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := keyfile.EncryptToMaster(&masterKey(t).PublicKey, testKey(t), now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"private.pem": private, "public.pem": public, "sealed": sealed} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := openssl(t, dir, "pkey", "-in", "private.pem", "-passin", "pass:correct horse", "-pubout"); got != string(public) {
		t.Errorf("openssl finds another public key:\n%s", got)
	}
	text := openssl(t, dir, "pkeyutl", "-decrypt", "-inkey", "private.pem", "-passin", "pass:correct horse", "-in", "sealed", "-pkeyopt", "rsa_padding_mode:pkcs1")
	k, _, err := parse(t, []byte(text)).Unlock(nil)
	if err != nil || !k.Equal(testKey(t)) {
		t.Errorf("openssl decrypts %q", text)
	}
	scheme := openssl(t, dir, "asn1parse", "-in", "private.pem")
	for _, want := range []string{"PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"} {
		if !strings.Contains(scheme, want) {
			t.Errorf("openssl does not see %s in\n%s", want, scheme)
		}
	}
}

func TestWeReadWhatOpenSSLWrites(t *testing.T) {
	dir := t.TempDir()
	plain, err := keyfile.MarshalPrivatePEM(masterKey(t), pass)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "private.pem"), plain, 0o600); err != nil {
		t.Fatal(err)
	}
	in := []string{"-in", "private.pem", "-passin", "pass:correct horse"}
	for _, tc := range []struct {
		name string
		args []string
	}{
		{"defaults of pkey", append([]string{"pkey", "-aes-256-cbc", "-passout", "pass:new password"}, in...)},
		{"PRF SHA-1", append([]string{"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1", "-passout", "pass:new password"}, in...)},
		{"PRF SHA-256", append([]string{"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-passout", "pass:new password"}, in...)},
		{"PRF SHA-512, AES-128", append([]string{"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-passout", "pass:new password"}, in...)},
		{"AES-192, many rounds", append([]string{"pkcs8", "-topk8", "-v2", "aes-192-cbc", "-iter", "100000", "-passout", "pass:new password"}, in...)},
		{"PKCS #8 without password", append([]string{"pkcs8", "-topk8", "-nocrypt"}, in...)},
		{"PKCS #1 without password", append([]string{"rsa", "-traditional"}, in...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := []byte(openssl(t, dir, tc.args...))
			if got, err := keyfile.ParsePrivatePEM(text, []byte("new password")); err != nil || !got.Equal(masterKey(t)) {
				t.Fatalf("%v", err)
			}
		})
	}
	public := openssl(t, dir, append([]string{"pkey", "-pubout"}, in...)...)
	if got, err := keyfile.ParsePublicPEM([]byte(public)); err != nil || !got.Equal(&masterKey(t).PublicKey) {
		t.Errorf("public key: %v", err)
	}
	scrypt := openssl(t, dir, append([]string{"pkcs8", "-topk8", "-scrypt", "-passout", "pass:new password"}, in...)...)
	if _, err := keyfile.ParsePrivatePEM([]byte(scrypt), []byte("new password")); !errors.Is(err, keyfile.ErrFormat) || !strings.Contains(err.Error(), "convert it") {
		t.Errorf("scrypt: %v", err)
	}
}

// openssl runs the command in dir and returns its output. Where it is missing
// the test is skipped, except in CI.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed; CI must have it")
		}
		t.Skip("openssl is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, stderr.String())
	}
	return string(out)
}

func FuzzParsePEM(f *testing.F) {
	public, err := keyfile.MarshalPublicPEM(&masterKey(f).PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(public)
	f.Fuzz(func(t *testing.T, b []byte) {
		pub, err := keyfile.ParsePublicPEM(b)
		if err != nil {
			return
		}
		text, err := keyfile.MarshalPublicPEM(pub)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := keyfile.ParsePublicPEM(text); err != nil || !again.Equal(pub) {
			t.Fatalf("does not survive a round trip: %v", err)
		}
		_, _ = keyfile.ParsePrivatePEM(b, nil)
	})
}
