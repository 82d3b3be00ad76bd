package luks

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// cryptsetup runs the format's own tool.
func cryptsetup(t testing.TB, passphrase string, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("cryptsetup")
	if err != nil {
		tool = "/sbin/cryptsetup"
	}
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("cryptsetup is not installed (test/packages installs what the tests need)")
	}
	cmd := exec.Command(tool, append([]string{"-q", "--key-file=-", "--pbkdf-force-iterations=1000"}, args...)...)
	cmd.Stdin = strings.NewReader(passphrase)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// format makes a volume.
func format(t testing.TB, passphrase string, args ...string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "volume")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 20<<20)); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, passphrase, append(append([]string{"luksFormat"}, args...), name)...)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAPassphraseOpensWhatCryptsetupMade(t *testing.T) {
	for name, args := range map[string][]string{
		"version 1":           {"--type=luks1"},
		"version 1, CBC":      {"--type=luks1", "--cipher=aes-cbc-essiv:sha256", "--key-size=256", "--hash=sha1"},
		"version 2, Argon2id": {"--type=luks2", "--pbkdf-memory=8192", "--pbkdf-force-iterations=4"},
		"version 2, Argon2i":  {"--type=luks2", "--pbkdf=argon2i", "--pbkdf-memory=4096", "--pbkdf-force-iterations=4", "--sector-size=4096"},
		"version 2, PBKDF2":   {"--type=luks2", "--pbkdf=pbkdf2", "--hash=sha512"},
	} {
		t.Run(name, func(t *testing.T) {
			b := format(t, "let me in", args...)
			v, err := Unlock(bytes.NewReader(b), []byte("let me in"))
			if err != nil || len(v.Key) == 0 || v.Offset == 0 || !strings.HasPrefix(v.Cipher, "aes-") {
				t.Errorf("%+v, %v", v, err)
			}
			if _, err := Unlock(bytes.NewReader(b), []byte("let me out")); !errors.Is(err, ErrPassphrase) {
				t.Errorf("%v", err)
			}
			if _, err := Unlock(bytes.NewReader(b[:8000]), []byte("let me in")); !fsread.IsCorrupt(err) {
				t.Errorf("cut: %v", err)
			}
		})
	}
}

func TestWhatIsNoLUKSIsSaidToBeNone(t *testing.T) {
	if _, err := Unlock(bytes.NewReader(make([]byte, 4096)), nil); !errors.Is(err, fsread.ErrOther) {
		t.Error(err)
	}
}
