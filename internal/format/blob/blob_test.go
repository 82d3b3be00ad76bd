package blob_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

type vector struct {
	Name       string
	Raw        hexBytes
	RawSHA     string    `json:"raw-sha256"`
	Plain      *hexBytes // absent: forty times the sentence of the dog
	PlainSHA   string    `json:"plain-sha256"`
	Key        *hexBytes
	Digest     digest.Digest
	CryptMode  string `json:"crypt-mode"`
	Compressed bool
	CRC        string `json:"crc32"`

	ExpectDigest *digest.Digest `json:"expect-digest"` // of the invalid ones
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func (v vector) plain() []byte {
	if v.Plain != nil {
		return *v.Plain
	}
	return dogs()
}

func dogs() []byte {
	return bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 40)
}

func vectors(t testing.TB) (blobs, invalid []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/blobs.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Blobs, Invalid []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Blobs) == 0 || len(file.Invalid) == 0 {
		t.Fatal("testdata/blobs.json is empty")
	}
	return file.Blobs, file.Invalid
}

func (v vector) key(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	if v.Key == nil {
		return nil
	}
	return newKey(t, [32]byte(*v.Key))
}

func newKey(t testing.TB, raw [32]byte) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func decoder(t testing.TB, key *chunkcrypt.Key) *blob.Decoder {
	t.Helper()
	d, err := blob.NewDecoder(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func encoder(t testing.TB, key *chunkcrypt.Key, compress bool) *blob.Encoder {
	t.Helper()
	e, err := blob.NewEncoder(key, rand.NewChaCha8([32]byte{1}), compress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

func TestBlobsDecodeAsTheVectorsSay(t *testing.T) {
	blobs, _ := vectors(t)
	for _, v := range blobs {
		t.Run(v.Name, func(t *testing.T) {
			if s := sha256.Sum256(v.Raw); hex.EncodeToString(s[:]) != v.RawSHA {
				t.Fatal("the vector is not what it was")
			}
			h, err := blob.Check(v.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if h.Kind.Encrypted() != (v.CryptMode == "encrypt") || h.Kind.Compressed() != v.Compressed {
				t.Errorf("kind %v", h.Kind)
			}
			if got := fmt.Sprintf("%08x", h.CRC); got != v.CRC {
				t.Errorf("CRC %s, want %s", got, v.CRC)
			}
			if !bytes.Equal(h.Append(nil), v.Raw[:h.Size]) {
				t.Errorf("header is appended as %x, want %x", h.Append(nil), v.Raw[:h.Size])
			}
			key := v.key(t)
			got, err := decoder(t, key).Append([]byte("front"), v.Raw, 1800)
			if err != nil {
				t.Fatal(err)
			}
			plain, ok := bytes.CutPrefix(got, []byte("front"))
			if !ok || !bytes.Equal(plain, v.plain()) {
				t.Fatalf("data %q", got)
			}
			if digest.Of(plain).String() != v.PlainSHA {
				t.Error("SHA-256 of the data differs")
			}
			name := digest.Of(plain)
			if key != nil {
				name = key.Digest(plain)
			}
			if name != v.Digest {
				t.Errorf("digest %s, want %s", name, v.Digest)
			}
		})
	}
}

func TestUncompressedBlobsEncodeAsTheVectorsSay(t *testing.T) {
	blobs, _ := vectors(t)
	for _, v := range blobs {
		if v.Compressed {
			continue // other bytes are as good
		}
		t.Run(v.Name, func(t *testing.T) {
			var iv []byte
			if v.Key != nil {
				iv = v.Raw[12:28]
			}
			e, err := blob.NewEncoder(v.key(t), bytes.NewReader(iv), false)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			got, err := e.Append(nil, v.plain())
			if err != nil || !bytes.Equal(got, v.Raw) {
				t.Fatalf("%v\ngot  %x\nwant %x", err, got, v.Raw)
			}
		})
	}
}

func TestInvalidBlobsAreRefused(t *testing.T) {
	_, invalid := vectors(t)
	for _, v := range invalid {
		t.Run(v.Name, func(t *testing.T) {
			got, err := decoder(t, v.key(t)).Append(nil, v.Raw, 1<<20)
			if v.ExpectDigest != nil {
				if err != nil || digest.Of(got) == *v.ExpectDigest {
					t.Fatalf("%v, digest %s", err, digest.Of(got))
				}
				return
			}
			if !errors.Is(err, blob.ErrFormat) || got != nil {
				t.Fatalf("%x, err = %v, want ErrFormat", got, err)
			}
			if auth := errors.Is(err, chunkcrypt.ErrAuth); auth != (v.Key != nil) {
				t.Errorf("ErrAuth: %v, in %v", auth, err)
			}
		})
	}
}

func TestMagicsAreDerivedFromTheirNames(t *testing.T) {
	text, err := os.ReadFile("testdata/constants.json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Magics map[string]struct {
			Of string `json:"sha256-prefix-of"`
		}
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]blob.Kind{
		"blob-uncompressed":         blob.Plain,
		"blob-compressed":           blob.Zstd,
		"blob-encrypted":            blob.Encrypted,
		"blob-encrypted-compressed": blob.EncryptedZstd,
	} {
		s := sha256.Sum256([]byte(c.Magics[name].Of))
		if got := (blob.Header{Kind: kind}).Append(nil)[:8]; !bytes.Equal(got, s[:8]) {
			t.Errorf("%s: magic %x, want %x", name, got, s[:8])
		}
	}
}

func TestBlobsSurviveARoundTrip(t *testing.T) {
	key := newKey(t, [32]byte{9})
	for _, tc := range []struct {
		name     string
		key      *chunkcrypt.Key
		compress bool
		plain    []byte
		want     blob.Kind
	}{
		{"nothing", nil, true, nil, blob.Plain},
		{"one byte", nil, true, []byte("x"), blob.Plain},
		{"short text", nil, true, []byte("Holdfast test data"), blob.Plain},
		{"long text", nil, true, dogs(), blob.Zstd},
		{"long text, not compressing", nil, false, dogs(), blob.Plain},
		{"noise", nil, true, noise(300 << 10), blob.Plain},
		{"zeros", nil, true, make([]byte, 4<<20), blob.Zstd},
		{"nothing, encrypted", key, true, nil, blob.Encrypted},
		{"long text, encrypted", key, true, dogs(), blob.EncryptedZstd},
		{"long text, encrypted, not compressing", key, false, dogs(), blob.Encrypted},
		{"noise, encrypted", key, true, noise(300 << 10), blob.Encrypted},
		{"zeros, encrypted", key, true, make([]byte, 4<<20), blob.EncryptedZstd},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, d := encoder(t, tc.key, tc.compress), decoder(t, tc.key)
			for range 2 {
				raw, err := e.Append([]byte("front"), tc.plain)
				if err != nil {
					t.Fatal(err)
				}
				raw = raw[len("front"):]
				h, err := blob.Check(raw)
				if err != nil || h.Kind != tc.want {
					t.Fatalf("kind %v, %v; want %v", h.Kind, err, tc.want)
				}
				if len(raw) > h.Size+len(tc.plain) || len(raw) > blob.MaxEncoded(len(tc.plain)) {
					t.Errorf("%d bytes for %d", len(raw), len(tc.plain))
				}
				// Exactly as much room as is needed, none, and a lot.
				for _, room := range []int{len(tc.plain), 0, 5 << 20} {
					buf := make([]byte, 0, room)
					got, err := d.Append(buf, raw, len(tc.plain))
					if err != nil || !bytes.Equal(got, tc.plain) {
						t.Fatalf("room %d: %d bytes, %v", room, len(got), err)
					}
					if room >= len(tc.plain) && room > 0 && len(got) > 0 && &got[0] != &buf[:1][0] {
						t.Errorf("room for %d was not used", room)
					}
				}
				for _, spare := range []int{0, chunkcrypt.TagSize} { // the last: raw is gone then
					raw := append(make([]byte, 0, len(raw)+spare), raw...)
					if got, err := d.Consume(nil, raw, len(tc.plain)); err != nil || !bytes.Equal(got, tc.plain) {
						t.Fatalf("consumed with %d spare: %d bytes, %v", spare, len(got), err)
					}
				}
			}
		})
	}
}

func TestEveryBlobHasItsOwnIV(t *testing.T) {
	e := encoder(t, newKey(t, [32]byte{9}), true)
	seen := map[[16]byte]bool{}
	for range 100 {
		raw, err := e.Append(nil, dogs())
		if err != nil {
			t.Fatal(err)
		}
		h, err := blob.ParseHeader(raw)
		if err != nil || seen[h.IV] {
			t.Fatalf("IV %x again, or %v", h.IV, err)
		}
		seen[h.IV] = true
	}
}

func TestNoIVNoBlob(t *testing.T) {
	e, err := blob.NewEncoder(newKey(t, [32]byte{9}), strings.NewReader("too short"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if raw, err := e.Append(nil, dogs()); err == nil || raw != nil {
		t.Fatalf("%x, %v", raw, err)
	}
}

func TestEncryptedBlobNeedsAKey(t *testing.T) {
	raw, err := encoder(t, newKey(t, [32]byte{9}), true).Append(nil, dogs())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decoder(t, nil).Append(nil, raw, 1<<20); !errors.Is(err, blob.ErrNoKey) || errors.Is(err, blob.ErrFormat) {
		t.Fatalf("err = %v, want ErrNoKey and no more", err)
	}
	raw[20] ^= 1 // the IV, which no CRC covers
	if _, err := decoder(t, newKey(t, [32]byte{9})).Append(nil, raw, 1<<20); !errors.Is(err, chunkcrypt.ErrAuth) {
		t.Fatalf("err = %v, want ErrAuth", err)
	}
	raw[60] ^= 1
	if _, err := decoder(t, nil).Append(nil, raw, 1<<20); !errors.Is(err, blob.ErrFormat) {
		t.Fatalf("err = %v, want ErrFormat for a wrong CRC even without a key", err)
	}
}

func TestDecoderStopsAtTheLimit(t *testing.T) {
	for _, tc := range []struct {
		name     string
		key      *chunkcrypt.Key
		compress bool
	}{
		{"plain", nil, false},
		{"zstd", nil, true},
		{"encrypted", newKey(t, [32]byte{9}), false},
		{"encrypted zstd", newKey(t, [32]byte{9}), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raw, err := encoder(t, tc.key, tc.compress).Append(nil, dogs())
			if err != nil {
				t.Fatal(err)
			}
			d := decoder(t, tc.key)
			for _, limit := range []int{-1, 0, 1, 1799} {
				if got, err := d.Append(make([]byte, 0, 1<<20), raw, limit); !errors.Is(err, blob.ErrFormat) || got != nil {
					t.Errorf("limit %d: %d bytes, %v", limit, len(got), err)
				}
			}
			if got, err := d.Append(nil, raw, 1800); err != nil || !bytes.Equal(got, dogs()) {
				t.Errorf("limit 1800: %d bytes, %v", len(got), err)
			}
		})
	}
}

// seal makes a zstd blob of any payload.
func seal(payload []byte) []byte {
	return append(blob.Header{Kind: blob.Zstd, CRC: crc32.ChecksumIEEE(payload)}.Append(nil), payload...)
}

// bomb is a frame of n blocks that repeat one byte 128 Ki times, without a
// content size.
func bomb(n int) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58}
	for i := range n {
		size := uint32(128<<10)<<3 | 1<<1
		if i == n-1 {
			size |= 1
		}
		frame = append(frame, byte(size), byte(size>>8), byte(size>>16), 0)
	}
	return frame
}

func TestBombsGoOffInASmallRoom(t *testing.T) {
	d := decoder(t, nil)
	raw := seal(bomb(8192)) // 1 GiB in 32 KiB
	if _, err := d.Append(nil, raw, blob.MaxChunk); !errors.Is(err, blob.ErrFormat) {
		t.Fatalf("err = %v, want ErrFormat", err)
	}
	got, err := d.Append(nil, seal(bomb(128)), blob.MaxChunk)
	if err != nil || len(got) != 16<<20 {
		t.Fatalf("the largest chunk: %d bytes, %v", len(got), err)
	}
	// Twelve bytes that claim 128 MiB are not believed.
	liar := seal([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 8, 1, 0, 0})
	n := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Append(nil, liar, blob.MaxPlain); !errors.Is(err, blob.ErrFormat) {
				b.Fatalf("err = %v", err)
			}
		}
	}).AllocedBytesPerOp()
	if n > 4<<20 {
		t.Errorf("%d bytes of memory for a claim", n)
	}
}

func TestEncoderRefusesMoreThanABlobHolds(t *testing.T) {
	if _, err := encoder(t, nil, false).Append(nil, make([]byte, blob.MaxPlain+1)); err == nil {
		t.Fatal("no error")
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const size = 1 << 20
	key := newKey(t, [32]byte{9})
	for _, tc := range []struct {
		name  string
		key   *chunkcrypt.Key
		plain []byte
	}{
		{"zstd", nil, bytes.Repeat(dogs(), 600)[:size]},
		{"noise", nil, noise(size)},
		{"encrypted zstd", key, bytes.Repeat(dogs(), 600)[:size]},
		{"encrypted noise", key, noise(size)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, d := encoder(t, tc.key, true), decoder(t, tc.key)
			raw := make([]byte, 0, blob.MaxEncoded(size))
			plain := make([]byte, 0, size)
			for _, decode := range []func(dst, raw []byte, limit int) ([]byte, error){d.Consume, d.Append} {
				n := testing.AllocsPerRun(10, func() {
					enc, err := e.Append(raw, tc.plain)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := decode(plain, enc, size); err != nil {
						t.Fatal(err)
					}
				})
				if n > spareAllocs {
					t.Errorf("%v allocations per blob", n)
				}
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	key := newKey(f, [32]byte{9})
	blobs, invalid := vectors(f)
	for _, v := range append(blobs, invalid...) {
		f.Add([]byte(v.Raw), 1800)
	}
	f.Add(seal(bomb(10)), 1<<20)
	sealed, err := encoder(f, key, true).Append(nil, dogs())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, 1800)
	f.Fuzz(func(t *testing.T, raw []byte, limit int) {
		limit %= 2 << 20
		// The CRC would stop nearly all inputs: make it right.
		if h, err := blob.ParseHeader(raw); err == nil {
			payload := raw[h.Size:]
			h.CRC = crc32.ChecksumIEEE(payload)
			raw = append(h.Append(nil), payload...)
		}
		d := decoder(t, key)
		plain, err := d.Append(nil, raw, limit)
		consumed, cerr := d.Consume(nil, append(make([]byte, 0, len(raw)+chunkcrypt.TagSize), raw...), limit)
		if (err == nil) != (cerr == nil) || !bytes.Equal(plain, consumed) {
			t.Fatalf("%d bytes and %v, when consumed %d and %v", len(plain), err, len(consumed), cerr)
		}
		if err != nil {
			if !errors.Is(err, blob.ErrFormat) || plain != nil {
				t.Fatalf("%d bytes, err = %v", len(plain), err)
			}
			return
		}
		if len(plain) > limit {
			t.Fatalf("%d bytes, the limit is %d", len(plain), limit)
		}
		for _, k := range []*chunkcrypt.Key{nil, key} {
			again, err := encoder(t, k, true).Append(nil, plain)
			if err != nil {
				t.Fatal(err)
			}
			back, err := d.Append(nil, again, len(plain))
			if err != nil || !bytes.Equal(back, plain) {
				t.Fatalf("does not survive a round trip: %d bytes, %v", len(back), err)
			}
		}
	})
}
