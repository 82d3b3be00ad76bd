package backupserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// writers opens a fixed index of 10 MiB as 1 and a dynamic one as 2.
func (p *peer) writers() {
	p.t.Helper()
	p.ok("POST", "/fixed_index", values("archive-name", "d.img.fidx", "size", 10*mib), nil)
	p.ok("POST", "/dynamic_index", values("archive-name", "r.pxar.didx"), nil)
}

func TestUploadsThatAreNotWhatTheyAreCalledAreRefused(t *testing.T) {
	s, path := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	plain := []byte("some data that is stored as it is")
	raw, d := encode(t, plain), digest.Of(plain)
	packed := encode(t, zeros)
	spoil := func(at int) []byte { b := bytes.Clone(raw); b[at] ^= 1; return b }
	for _, tc := range []struct {
		name, words string
		path        string
		wid         int
		d           digest.Digest
		size, says  int
		body        []byte
	}{
		{"a forged digest", "wrong chunk digest", "/dynamic_chunk", 2, digest.Of(nil), len(plain), len(raw), raw},
		{"other data", "wrong chunk digest", "/dynamic_chunk", 2, d, len(plain), len(raw), spoil(20)},
		{"too small a size", "", "/dynamic_chunk", 2, d, len(plain) - 1, len(raw), raw},
		{"too large a size", "it has 33 bytes, size says 34", "/dynamic_chunk", 2, d, len(plain) + 1, len(raw), raw},
		{"a short body", "encoded-size says", "/dynamic_chunk", 2, d, len(plain), len(raw) + 1, raw},
		{"a long body", "longer than encoded-size", "/dynamic_chunk", 2, d, len(plain), len(raw) - 1, raw},
		{"a body without anything", "encoded-size says", "/dynamic_chunk", 2, d, len(plain), len(raw), []byte{}},
		{"a foreign magic", "not a valid data blob", "/dynamic_chunk", 2, d, len(plain), len(raw), spoil(0)},
		{"a bomb", "", "/dynamic_chunk", 2, digest.Of(zeros), 1000, len(packed), packed},
		{"a cut frame", "", "/dynamic_chunk", 2, digest.Of(zeros), len(zeros), len(packed) - 5, packed[:len(packed)-5]},
		{"an encrypted header alone", "not a valid data blob", "/dynamic_chunk", 2, d, 5, 20, append([]byte{0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0}, make([]byte, 12)...)},
		{"an index of the other kind", "not open", "/fixed_chunk", 2, d, len(plain), len(raw), raw},
		{"an index that is not there", "not open", "/dynamic_chunk", 3, d, len(plain), len(raw), raw},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p.t = t
			p.refused(400, tc.words, "POST", tc.path, values("wid", tc.wid, "digest", tc.d, "size", tc.size, "encoded-size", tc.says), tc.body)
		})
	}
	p.t = t
	big := bytes.Repeat([]byte("5 MiB"), mib)
	p.refused(400, "got large chunk", "POST", "/fixed_chunk", values("wid", 1, "digest", digest.Of(big), "size", len(big), "encoded-size", len(encode(t, big))), encode(t, big))
	p.chunk("/fixed_chunk", 1, []byte("a tail"))
	p.refused(400, "multiple end chunks", "POST", "/fixed_chunk", values("wid", 1, "digest", d, "size", len(plain), "encoded-size", len(raw)), raw)
	p.chunk("/dynamic_chunk", 2, plain) // the connection has survived all that

	var stored []string
	if err := filepath.WalkDir(filepath.Join(path, ".chunks"), func(name string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			stored = append(stored, e.Name())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(stored) != 2 {
		t.Errorf("stored are %v, want the two that were right", stored)
	}
}

// What a client sends as CRC of a chunk is neither believed nor stored.
func TestChunkGetsTheRightCRC(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	plain := []byte("data")
	raw, d := encode(t, plain), digest.Of(plain)
	wrong := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(wrong[8:], 12345)
	p.ok("POST", "/dynamic_chunk", values("wid", 2, "digest", d, "size", 4, "encoded-size", len(raw)), wrong)
	ok, err := p.stored(s, d)
	if err != nil || !bytes.Equal(ok, raw) {
		t.Fatalf("stored is %x, %v, want %x", ok, err, raw)
	}
	p.refused(400, "not a valid data blob", "POST", "/blob", values("file-name", "a.blob", "encoded-size", len(raw)), wrong)
}

// stored reads a chunk that no snapshot names yet.
func (p *peer) stored(s interface{ Location() string }, d digest.Digest) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.Location(), names.ChunkPath(d)))
}

// Whoever knows a digest does not have the data.
func TestForeignChunksCannotBeNamed(t *testing.T) {
	s, _ := store(t)
	full(t, s, vm100)
	other := names.Snapshot{Group: names.Group{Type: names.VM, ID: "666"}, Time: 1}
	p := begin(t, config(s, other))
	p.writers()
	secret := digest.Of(block(1)) // in the store, of another group
	p.refused(400, "no such chunk", "PUT", "/fixed_index", nil, list{"wid": 1, "digest-list": []digest.Digest{secret}, "offset-list": []int{0}})
	p.refused(400, "no such chunk", "PUT", "/dynamic_index", nil, list{"wid": 2, "digest-list": []digest.Digest{secret}, "offset-list": []int{0}})

	// In one's own group it takes the index that names it.
	next := begin(t, config(s, at(vm100, 1)))
	next.writers()
	call := list{"wid": 1, "digest-list": []digest.Digest{secret}, "offset-list": []int{0}}
	next.refused(400, "no such chunk", "PUT", "/fixed_index", nil, call)
	if status, text := next.call("GET", "/previous", values("archive-name", "drive-scsi0.img.fidx"), nil); status != 200 {
		t.Fatal(text)
	}
	next.ok("PUT", "/fixed_index", nil, call)
	tail := digest.Of(block(3)[:5000])
	next.ok("PUT", "/dynamic_index", nil, list{"wid": 2, "digest-list": []digest.Digest{tail, secret}, "offset-list": []int{0, 5000}})
}

func TestAppendsOutOfPlaceAreRefused(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	whole, tail, odd := p.chunk("/fixed_chunk", 1, block(1)), p.chunk("/fixed_chunk", 1, block(2)[:2*mib]), p.chunk("/dynamic_chunk", 2, []byte("odd"))
	one := func(path string, wid int, d digest.Digest, offset uint64, words string) {
		t.Helper()
		p.refused(400, words, "PUT", path, nil, list{"wid": wid, "digest-list": []digest.Digest{d}, "offset-list": []uint64{offset}})
	}
	one("/fixed_index", 1, whole, 1, "unaligned")
	one("/fixed_index", 1, whole, 8*mib, "behind the image's end")
	one("/fixed_index", 1, whole, 1<<62, "unaligned or large")
	one("/fixed_index", 1, tail, 0, "does not end the image")
	one("/fixed_index", 1, odd, 8*mib, "does not end the image")
	one("/dynamic_index", 2, whole, 1, "strange chunk offset")
	one("/dynamic_index", 1, whole, 0, "not open")
	one("/fixed_index", 7, whole, 0, "not open")
	p.refused(400, "2 offsets for 1 digests", "PUT", "/fixed_index", nil, list{"wid": 1, "digest-list": []digest.Digest{whole}, "offset-list": []int{0, 1}})
	p.refused(400, "too large", "PUT", "/fixed_index", nil, append([]byte(`{"wid":1,"x":"`), bytes.Repeat([]byte("x"), 600<<10)...))
	p.append("/dynamic_index", 2, []digest.Digest{odd}, 0)
	one("/dynamic_index", 2, whole, 0, "strange chunk offset")
	p.append("/fixed_index", 1, []digest.Digest{tail, whole, whole}, 8*mib, 0, 4*mib)
}

func TestIndexIsNotClosedAsSomethingElse(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	a := p.chunk("/fixed_chunk", 1, block(1))
	tail := p.chunk("/fixed_chunk", 1, []byte("x"))
	sum := sumOf(a, a, tail)
	p.refused(400, "chunk count", "POST", "/fixed_close", values("wid", 1, "chunk-count", 0, "size", 10*mib, "csum", sum), nil)
	p.append("/fixed_index", 1, []digest.Digest{a, a, a}, 0, 4*mib, 0)
	p.refused(400, "chunk count", "POST", "/fixed_close", values("wid", 1, "chunk-count", 2, "size", 10*mib, "csum", sum), nil)
	p.refused(400, "file size", "POST", "/fixed_close", values("wid", 1, "chunk-count", 3, "size", 12*mib, "csum", sum), nil)
	p.refused(400, "slot 2", "POST", "/fixed_close", values("wid", 1, "chunk-count", 3, "size", 10*mib, "csum", sum), nil) // one was appended twice
	p.refused(400, "it is empty", "POST", "/dynamic_close", values("wid", 2, "chunk-count", 0, "size", 0, "csum", sum), nil)
	p.manifest(vm100, p.blob("a.conf.blob", []byte("x")))
	p.refused(400, "cannot be finished", "POST", "/finish", nil, nil)
}

func TestWrongChecksumSpoilsTheBackup(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	d := p.chunk("/dynamic_chunk", 2, []byte("content"))
	p.append("/dynamic_index", 2, []digest.Digest{d}, 0)
	p.refused(400, "unexpected checksum", "POST", "/dynamic_close", values("wid", 2, "chunk-count", 1, "size", 7, "csum", digest.Of(nil)), nil)
	p.manifest(vm100, p.blob("a.conf.blob", []byte("x")))
	p.refused(400, "cannot be finished", "POST", "/finish", nil, nil)
	if err := p.leave(); !errors.Is(err, ErrUnfinished) {
		t.Errorf("err = %v", err)
	}
	if got := visible(t, s, vm100.Group); len(got) > 0 {
		t.Errorf("visible: %v", got)
	}
}

func TestManifestMustListWhatWasWritten(t *testing.T) {
	good := func(p *peer) manifest.File { return p.blob("a.conf.blob", []byte("x")) }
	for _, tc := range []struct {
		name, words string
		do          func(p *peer)
	}{
		{"no manifest", "was not uploaded", func(p *peer) { good(p) }},
		{"an index that is open", "open index writer", func(p *peer) { p.writers(); p.manifest(vm100, good(p)) }},
		{"garbage", "manifest", func(p *peer) { good(p); p.blob("index.json.blob", []byte("{")) }},
		{"an empty checksum", "csum", func(p *peer) {
			good(p)
			p.blob("index.json.blob", []byte(`{"backup-type":"vm","backup-id":"100","backup-time":1717600000,"files":[{"filename":"a.conf.blob","crypt-mode":"none","size":13,"csum":""}]}`))
		}},
		{"no files", "file count == 0", func(p *peer) { good(p); p.manifest(vm100) }},
		{"another snapshot", "belongs to", func(p *peer) { p.manifest(at(vm100, 1), good(p)) }},
		{"a file that is not there", "was not uploaded", func(p *peer) {
			f := good(p)
			f.Filename = "b.conf.blob"
			p.manifest(vm100, f)
		}},
		{"another size", "bytes, it says", func(p *peer) {
			f := good(p)
			f.Size++
			p.manifest(vm100, f)
		}},
		{"another checksum", "it says", func(p *peer) {
			f := good(p)
			f.Csum[0] ^= 1
			p.manifest(vm100, f)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := store(t)
			p := begin(t, config(s, vm100))
			tc.do(p)
			p.refused(400, tc.words, "POST", "/finish", nil, nil)
			if err := p.leave(); !errors.Is(err, ErrUnfinished) {
				t.Errorf("err = %v", err)
			}
			if got := visible(t, s, vm100.Group); len(got) > 0 {
				t.Errorf("visible: %v", got)
			}
			full(t, s, vm100) // the same time again: nothing is left behind
		})
	}
}

func TestNothingChangesAfterFinish(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.manifest(vm100, p.blob("a.conf.blob", []byte("x")))
	p.ok("POST", "/finish", nil, nil)
	const over = "already marked as finished"
	p.refused(400, over, "POST", "/finish", nil, nil)
	p.refused(400, over, "POST", "/dynamic_index", values("archive-name", "a.didx"), nil)
	p.refused(400, over, "GET", "/previous", values("archive-name", "index.json.blob"), nil)
	raw := encode(t, []byte("y"))
	p.refused(400, over, "POST", "/blob", values("file-name", "a.conf.blob", "encoded-size", len(raw)), raw)
	if err := p.leave(); err != nil {
		t.Error(err)
	}
	verify(t, s, 1)
}

func TestStrangeCallsAreAnswered(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.refused(404, "not found", "GET", "/nothing", nil, nil)
	p.refused(404, "not found", "GET", "/finish", nil, nil)
	p.refused(404, "not found", "POST", "/finish/now", nil, nil)
	p.refused(400, "begins with a dot", "POST", "/../finish", nil, nil)
	p.refused(400, "begins with a dot", "POST", "/%2e%2e/finish", nil, nil)
	p.refused(400, "parameter is missing", "POST", "/dynamic_index", nil, nil)
	for _, name := range []string{"../evil.didx", "/etc/evil.didx", ".evil.didx", "a/b.didx", "a\x00.didx", "a.fidx", strings.Repeat("a", 300) + ".didx"} {
		p.refused(400, "'archive-name'", "POST", "/dynamic_index", values("archive-name", name), nil)
		p.refused(400, "'archive-name'", "POST", "/dynamic_index", nil, list{"archive-name": name})
	}
	if got := p.ok("GET", "/", nil, nil); !strings.Contains(got, `{"subdir":"dynamic_chunk"}`) {
		t.Errorf("the calls are %s", got)
	}
	p.ok("POST", "/dynamic_index/", values("archive-name", "a.didx"), nil) // empty components count for nothing
	p.refused(400, "exists", "POST", "/dynamic_index", values("archive-name", "a.didx"), nil)
	for i := 2; i <= 256; i++ {
		p.ok("POST", "/dynamic_index", values("archive-name", "a"+strings.Repeat("b", i%200)+string(rune('a'+i/200))+".didx"), nil)
	}
	p.refused(400, "more than 256", "POST", "/dynamic_index", values("archive-name", "z.didx"), nil)
}

func TestSessionsThatCannotBeginSayWhy(t *testing.T) {
	s, _ := store(t)
	full(t, s, vm100)
	running := begin(t, config(s, at(vm100, 100)))
	other := config(s, names.Snapshot{NS: "a/b", Group: vm100.Group, Time: 1})
	foreign := config(s, at(vm100, 200))
	foreign.Auth = names.AuthID{User: "joe", Realm: "pbs"}
	try := func(name string, c Config, status int, kind error) {
		t.Helper()
		_, err := Begin(t.Context(), c)
		if rest.StatusOf(err) != status || !errors.Is(err, kind) {
			t.Errorf("%s: %v with status %d, want %v with %d", name, err, rest.StatusOf(err), kind, status)
		}
	}
	try("a namespace that is not there", other, 404, repo.ErrNotFound)
	try("a second backup of the group", config(s, at(vm100, 200)), 400, repo.ErrLocked)
	_ = running.leave()
	try("the time of the last one", config(s, vm100), 400, repo.ErrExists)
	try("an earlier time", config(s, at(vm100, -1)), 400, repo.ErrExists)
	try("the group of someone else", foreign, 400, repo.ErrOwner)
	token := config(s, at(vm100, 200))
	token.Auth.Token = "t"
	try("a token for the group of its user", token, 400, repo.ErrOwner)
	if got := visible(t, s, vm100.Group); len(got) != 1 {
		t.Errorf("visible: %v", got)
	}
}

// An encrypted chunk never takes the place of a plain one.
func TestEncryptedChunksAreTakenOnTrust(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.writers()
	h := blob.Header{Kind: blob.Encrypted}
	raw := append(h.Append(nil), "ciphertext"...)
	d := digest.Of([]byte("whatever"))
	p.ok("POST", "/dynamic_chunk", values("wid", 2, "digest", d, "size", 10, "encoded-size", len(raw)), raw)
	got, err := p.stored(s, d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Check(got); err != nil {
		t.Errorf("stored without a right CRC: %v", err)
	}
	plain := p.chunk("/dynamic_chunk", 2, []byte("plain data"))
	p.refused(400, "encrypted one may not replace", "POST", "/dynamic_chunk", values("wid", 2, "digest", plain, "size", 10, "encoded-size", len(raw)), raw)
}
