package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// content is what volumes hold here: sectors that do not repeat.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// encrypted makes a volume that holds b with cryptsetup, which does it without the
// kernel's help where nobody uses the volume.
func encrypted(t *testing.T, b []byte, args ...string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "volume")
	if err := errors.Join(os.WriteFile(name, b, 0o600), os.Truncate(name, int64(len(b))+32<<20)); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, "let me in", append(args, "reencrypt", "--encrypt", "--type=luks2", "--reduce-device-size=32M",
		"--force-offline-reencrypt", "--disable-locks", "--pbkdf=pbkdf2", name)...)
	return readFile(t, name)
}

// encrypted1 is encrypted for version 1, which qemu-img writes.
func encrypted1(t *testing.T, b []byte, options string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/plain", b, 0o600), os.WriteFile(dir+"/pass", []byte("let me in"), 0o600)); err != nil {
		t.Fatal(err)
	}
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		fsreadtest.Lack(t, "qemu-img is not here")
	}
	for tries := 1; ; tries++ {
		out, err := exec.Command(tool, "convert", "--object", "secret,id=s,file="+dir+"/pass", "-f", "raw", dir+"/plain",
			"-O", "luks", "-o", "key-secret=s,iter-time=10,"+options, dir+"/volume").CombinedOutput()
		if bytes.Contains(out, []byte("accurate CPU usage")) && tries < 100 {
			continue // it measures how fast it is, which now and then was no time at all
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		break
	}
	return readFile(t, dir+"/volume")
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatOtherToolsEncryptedIsReadAgain(t *testing.T) {
	want := content(3<<20 + 8192)
	for name, volume := range map[string]func(t *testing.T) []byte{
		"version 2":               func(t *testing.T) []byte { return encrypted(t, want, "--sector-size=512") },
		"version 2, long sectors": func(t *testing.T) []byte { return encrypted(t, want, "--sector-size=4096") },
		"version 2, CBC": func(t *testing.T) []byte {
			return encrypted(t, want, "--cipher=aes-cbc-essiv:sha256", "--key-size=256")
		},
		"version 1": func(t *testing.T) []byte { return encrypted1(t, want, "cipher-alg=aes-256") },
		"version 1 with CBC": func(t *testing.T) []byte {
			return encrypted1(t, want, "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := fsreadtest.Mem(volume(t))
			v, err := Unlock(b, []byte("let me in"))
			if err != nil {
				t.Fatal(err)
			}
			img, err := v.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if n, err := img.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %v: other content", n, err)
			}
			r := rand.New(rand.NewPCG(1, 1))
			for range 50 { // across sectors, and within one
				off := r.IntN(len(want) - 1)
				n := 1 + r.IntN(min(len(want)-off, 1<<r.IntN(20)))
				if m, err := img.ReadAt(got[:n], int64(off)); m != n || !bytes.Equal(got[:n], want[off:off+n]) {
					t.Fatalf("%d bytes at %d: %d, %v", n, off, m, err)
				}
			}
			if n, err := img.ReadAt(got[:10], img.Size()-4); n != 4 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if e, err := image.ExtentAt(img, 0); err != nil || e.Kind != image.Data {
				t.Errorf("what is not read is not known: %+v, %v", e, err)
			}
		})
	}
}

func TestWhatCannotBeDecryptedIsRefused(t *testing.T) {
	b := fsreadtest.Mem(make([]byte, 1<<20))
	whole := Volume{Cipher: "aes-xts-plain64", Key: make([]byte, 64), Offset: 4096, SectorSize: 512}
	for name, change := range map[string]func(*Volume){
		"serpent":                 func(v *Volume) { v.Cipher = "serpent-xts-plain64" },
		"another mode":            func(v *Volume) { v.Cipher = "aes-ctr-plain64" },
		"no key":                  func(v *Volume) { v.Key = nil },
		"data behind the end":     func(v *Volume) { v.Offset = 1 << 20 },
		"more data than there is": func(v *Volume) { v.Size = 1 << 20 },
	} {
		v := whole
		change(&v)
		_, err := v.Open(b)
		u, unknown := errors.AsType[*fsread.UnsupportedError](err)
		if !unknown && !fsread.IsCorrupt(err) || unknown && u.What != fmt.Sprintf("cipher %q", v.Cipher) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := whole.Open(b); err != nil {
		t.Error(err)
	}
}

// A header may say anything; what it makes of it ends. Headers that are allowed to take
// long are left out.
func FuzzHeader(f *testing.F) {
	one, two := format(f, "x", "--type=luks1"), format(f, "x", "--type=luks2", "--pbkdf=pbkdf2")
	f.Add(one[:592], false)
	f.Add(bytes.TrimRight(two[4096:16384], "\x00"), true)
	f.Fuzz(func(t *testing.T, head []byte, version2 bool) {
		img := make(fsreadtest.Mem, 1<<20)
		copy(img, head)
		if version2 {
			copy(img, two[:4096])
			clear(img[4096:])
			copy(img[4096:16384], head)
			seal(img)
		}
		if slow(img, version2) {
			return
		}
		v, err := Unlock(img, []byte("x"))
		if err != nil {
			return
		}
		if o, err := v.Open(img); err == nil {
			_, _ = o.ReadAt(make([]byte, 1000), o.Size()-500)
		}
	})
}

func slow(img fsreadtest.Mem, version2 bool) bool {
	const most = 2000
	if !version2 {
		rounds := binary.BigEndian.Uint32(img[164:])
		for i := range 8 {
			rounds = max(rounds, binary.BigEndian.Uint32(img[208+48*i+4:]))
		}
		return rounds > most
	}
	m, err := readMetadata(img, img[:592])
	if err != nil {
		return false
	}
	for _, k := range m.Keyslots {
		if k.KDF.Rounds > most || k.KDF.Memory > 4096 || k.KDF.Time > 8 {
			return true
		}
	}
	for _, d := range m.Digests {
		if d.Rounds > most {
			return true
		}
	}
	return len(m.Keyslots) > 8
}
