package chunkcrypt_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

type keyVector struct {
	Name        string
	Key         string
	Fingerprint string
	ShortID     string `json:"short-id"`
	Digests     []struct {
		PlainLen int `json:"plain-len"`
		Plain    *string
		Fill     *byte
		SHA256   string `json:"plain-sha256"`
		Keyed    string `json:"keyed-digest"`
		AuthTag  string `json:"auth-tag"`
	}
}

func keyVectors(t testing.TB) []keyVector {
	t.Helper()
	raw, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Keys []keyVector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Keys) == 0 {
		t.Fatal("no keys in testdata/keys.json")
	}
	return file.Keys
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func counting(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	var raw [32]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	k, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyGivesTheKnownFingerprintDigestsAndTags(t *testing.T) {
	for _, v := range keyVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			raw := [32]byte(unhex(t, v.Key))
			k, err := chunkcrypt.New(raw)
			if err != nil {
				t.Fatal(err)
			}
			if k.Reveal() != raw {
				t.Error("Reveal does not return the key")
			}
			if got := k.Fingerprint().String(); got != v.Fingerprint {
				t.Errorf("fingerprint %s, want %s", got, v.Fingerprint)
			}
			if got := k.Fingerprint().Short(); got != v.ShortID {
				t.Errorf("short id %s, want %s", got, v.ShortID)
			}
			for _, d := range v.Digests {
				var plain []byte
				if d.Plain != nil {
					plain = unhex(t, *d.Plain)
				} else {
					plain = bytes.Repeat([]byte{*d.Fill}, d.PlainLen)
				}
				if got := digest.Of(plain).String(); got != d.SHA256 {
					t.Errorf("%d bytes: SHA-256 %s, want %s", d.PlainLen, got, d.SHA256)
				}
				if got := k.Digest(plain).String(); got != d.Keyed {
					t.Errorf("%d bytes: keyed digest %s, want %s", d.PlainLen, got, d.Keyed)
				}
				tag := k.Sign(plain)
				if got := hex.EncodeToString(tag[:]); got != d.AuthTag {
					t.Errorf("%d bytes: tag %s, want %s", d.PlainLen, got, d.AuthTag)
				}
			}
		})
	}
}

func TestFingerprintInputIsTheHashOfItsSentence(t *testing.T) {
	raw, err := os.ReadFile("testdata/constants.json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Input struct {
			Hex string
			Of  string `json:"sha256-of"`
		} `json:"fingerprint-input"`
		IDKey struct {
			Salt       string `json:"salt-ascii"`
			Iterations int
		} `json:"id-key"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	if s := sha256.Sum256([]byte(c.Input.Of)); hex.EncodeToString(s[:]) != c.Input.Hex {
		t.Errorf("SHA-256(%q) = %x, want %s", c.Input.Of, s, c.Input.Hex)
	}
	if c.IDKey.Salt != "_id_key" || c.IDKey.Iterations != 10 {
		t.Errorf("id-key derivation: %+v", c.IDKey)
	}
}

func TestFourMiBOfZerosHaveTheKnownKeyedDigest(t *testing.T) {
	const want = "348571e12bbbedb529def1f1394316e338a01945d871df9ef792617ceb13d636"
	if got := counting(t).Digest(make([]byte, 4<<20)).String(); got != want {
		t.Fatalf("digest %s, want %s", got, want)
	}
}

func TestDigest2IsDigestTwice(t *testing.T) {
	k, data := counting(t), bytes.Repeat([]byte("Holdfast "), 1000)
	for _, n := range []int{0, 5, 32, 64, 4096, 9000} {
		for _, m := range []int{0, n, 31} {
			if a, b := k.Digest2(data[:n], data[1:][:min(m, 8999)]); a != k.Digest(data[:n]) || b != k.Digest(data[1:][:min(m, 8999)]) {
				t.Fatalf("%d and %d bytes: %s and %s", n, m, a, b)
			}
		}
	}
}

func TestSealGivesTheKnownBytes(t *testing.T) {
	k := counting(t)
	iv := unhex(t, "000102030405060708090a0b0c0d0e0f")
	ct, tag := k.Seal([]byte("head"), iv, []byte("Holdfast test data"))
	if got := hex.EncodeToString(ct[4:]); got != "2f03cc125f85395cbd8bbe5a218448d220d2" {
		t.Errorf("ciphertext %s", got)
	}
	if got := hex.EncodeToString(tag[:]); got != "79a2ab7d4d39548dfcfee0fd19a05e84" {
		t.Errorf("tag %s", got)
	}
	plain, err := k.Open([]byte("head"), iv, tag[:], ct[4:])
	if err != nil || string(plain) != "headHoldfast test data" {
		t.Errorf("Open: %q, %v", plain, err)
	}
}

func TestSealInPlaceGivesTheSameBytes(t *testing.T) {
	k, iv := counting(t), make([]byte, 16)
	plain := bytes.Repeat([]byte("Holdfast "), 1000)
	want, wantTag := k.Seal(nil, iv, plain)
	buf := make([]byte, len(plain), len(plain)+chunkcrypt.TagSize)
	copy(buf, plain)
	got, tag := k.Seal(buf[:0], iv, buf)
	if !bytes.Equal(got, want) || tag != wantTag || &got[0] != &buf[0] {
		t.Fatal("sealing in place differs from sealing elsewhere")
	}
}

func TestOpenRefusesAnyChangeAndReleasesNothing(t *testing.T) {
	k := counting(t)
	iv := make([]byte, 16)
	secret := []byte("Holdfast test data, a little longer than a block")
	ct, tag := k.Seal(nil, iv, secret)
	other, err := chunkcrypt.New([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
	for _, tc := range []struct {
		name        string
		key         *chunkcrypt.Key
		iv, tag, ct []byte
	}{
		{"other key", other, iv, tag[:], ct},
		{"other IV", k, flip(iv), tag[:], ct},
		{"other tag", k, iv, flip(tag[:]), ct},
		{"changed ciphertext", k, iv, tag[:], flip(ct)},
		{"cut ciphertext", k, iv, tag[:], ct[:len(ct)-1]},
		{"no ciphertext", k, iv, tag[:], nil},
		{"short tag", k, iv, tag[:12], ct},
		{"short IV", k, iv[:12], tag[:], ct},
	} {
		t.Run(tc.name, func(t *testing.T) {
			room := make([]byte, 0, 256)
			got, err := tc.key.Open(room, tc.iv, tc.tag, tc.ct)
			if !errors.Is(err, chunkcrypt.ErrAuth) || got != nil {
				t.Fatalf("got %q, %v; want ErrAuth", got, err)
			}
			if bytes.Contains(room[:cap(room)], secret[:8]) {
				t.Fatal("plain data was left in the buffer")
			}
		})
	}
}

func TestSealOpenAndDigestDoNotAllocate(t *testing.T) {
	k, iv, plain := counting(t), make([]byte, 16), make([]byte, 64<<10)
	sealed, opened := make([]byte, 0, 65<<10), make([]byte, 0, 65<<10)
	n := testing.AllocsPerRun(20, func() {
		k.Digest(plain)
		ct, tag := k.Seal(sealed, iv, plain)
		if _, err := k.Open(opened, iv, tag[:], ct); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 { // the tag array that crosses an interface
		t.Fatalf("%v allocations per chunk", n)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	var raw [32]byte
	copy(raw[:], "THIS IS SECRET..................")
	k, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", *k)
		fmt.Fprintf(&out, verb+"\n", struct{ K chunkcrypt.Key }{*k})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", k, "value", *k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", k, "value", *k)
	if err := json.NewEncoder(&out).Encode(map[string]any{"k": k, "v": *k}); err != nil {
		t.Fatal(err)
	}
	all := out.String()
	for _, leak := range []string{"SECRET", "534543524554", "83 69 67 82", "S E C R E T", "U+0053", "0x53"} {
		if strings.Contains(strings.ToUpper(all), leak) {
			t.Errorf("printed %q:\n%s", leak, all)
		}
	}
}

func TestKeysCompareByValue(t *testing.T) {
	a, b := counting(t), counting(t)
	c, err := chunkcrypt.New([32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) || a.Equal(c) {
		t.Fatal("Equal does not compare the key bytes")
	}
}

func TestFingerprintTextSurvivesARoundTrip(t *testing.T) {
	f := counting(t).Fingerprint()
	for _, s := range []string{f.String(), strings.ReplaceAll(f.String(), ":", ""), strings.ToUpper(f.String())} {
		got, err := chunkcrypt.ParseFingerprint(s)
		if err != nil || got != f {
			t.Errorf("ParseFingerprint(%q) = %s, %v", s, got, err)
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back chunkcrypt.Fingerprint
	if err := json.Unmarshal(text, &back); err != nil || back != f {
		t.Errorf("JSON %s gives %s, %v", text, back, err)
	}
	if f.IsZero() || !(chunkcrypt.Fingerprint{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestParseFingerprintRefuses(t *testing.T) {
	for _, s := range []string{"", "0e:ab", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64)} {
		if f, err := chunkcrypt.ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%q) = %s", s, f)
		}
	}
}
