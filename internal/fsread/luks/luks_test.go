package luks

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
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

func TestSlotThatIsNotUnderstoodIsNotInTheWayOfOthers(t *testing.T) {
	name := filepath.Join(t.TempDir(), "volume")
	second := filepath.Join(t.TempDir(), "second")
	b := format(t, "the first", "--type=luks2", "--pbkdf=pbkdf2", "--hash=sha256")
	if err := errors.Join(os.WriteFile(name, b, 0o600), os.WriteFile(second, []byte("the second"), 0o600)); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, "the first", "luksAddKey", "--pbkdf=pbkdf2", "--disable-locks", name, second)
	b = readFile(t, name)
	slot := bytes.Index(b, []byte(`"hash":"sha256"`)) // of the first slot
	copy(b[slot:], `"hash":"sha000"`)
	seal(b)
	if v, err := Unlock(bytes.NewReader(b), []byte("the second")); err != nil || len(v.Key) == 0 {
		t.Errorf("%+v, %v", v, err)
	}
	_, err := Unlock(bytes.NewReader(b), []byte("the first"))
	if _, unknown := errors.AsType[*fsread.UnsupportedError](err); !unknown {
		t.Errorf("nobody knows whether this passphrase is wrong: %v", err)
	}
}

func TestMoreSlotsThanThereCanBeAreNotTried(t *testing.T) {
	b := format(t, "x", "--type=luks2", "--pbkdf=pbkdf2")
	var slots strings.Builder
	for i := range maxSlots {
		fmt.Fprintf(&slots, `"%d":{"type":"luks2"},`, 100+i)
	}
	text, _, _ := bytes.Cut(b[4096:16384], []byte{0})
	copy(b[4096:16384], bytes.Replace(text, []byte(`"keyslots":{`), []byte(`"keyslots":{`+slots.String()), 1))
	seal(b)
	if _, err := Unlock(bytes.NewReader(b), []byte("x")); !fsread.IsCorrupt(err) {
		t.Error(err)
	}
}

// seal puts the checksum of a header of version 2 right.
func seal(b []byte) {
	clear(b[448:512])
	sum := sha256.Sum256(b[:16384])
	copy(b[448:], sum[:])
}
