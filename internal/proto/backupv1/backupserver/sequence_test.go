package backupserver

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

const mib = 1 << 20

var zeros = make([]byte, 4*mib)

// block is a full chunk with content of its own.
func block(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "block %08d ", n), 4*mib/15+1)[:4*mib]
}

// The values that are worked out in the protocol's description.
func TestWorkedExampleOfADynamicArchive(t *testing.T) {
	s, _ := store(t)
	h1 := names.Snapshot{Group: names.Group{Type: names.Host, ID: "h1"}, Time: 1717600000}
	p := begin(t, config(s, h1))
	if got := p.ok("GET", "/previous_backup_time", nil, nil); got != "null" {
		t.Errorf("previous backup: %s", got)
	}
	if got := p.ok("POST", "/dynamic_index", values("archive-name", "a.didx"), nil); got != "1" {
		t.Errorf("wid is %s", got)
	}
	raw, err := hex.DecodeString("42ab3807be8370a1" + "20303a36" + "68656c6c6f0a")
	if err != nil {
		t.Fatal(err)
	}
	const d = "5891b5b5" + "22d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	p.ok("POST", "/dynamic_chunk", values("wid", 1, "digest", d, "size", 6, "encoded-size", 18), raw)
	p.ok("PUT", "/dynamic_index", nil, list{"wid": 1, "digest-list": []string{d}, "offset-list": []int{0}})
	const sum = "5d54062c61dfdd888bdc1537859fbd865a7f873420df96e9be9cf2e9ca2194b4"
	p.ok("POST", "/dynamic_close", values("wid", 1, "chunk-count", 1, "size", 6, "csum", sum), nil)
	p.blob("index.json.blob", []byte(`{"backup-type":"host","backup-id":"h1","backup-time":1717600000,"files":[{"filename":"a.didx",`+
		`"crypt-mode":"none","size":6,"csum":"`+sum+`"}],"unprotected":{},"signature":null}`))
	p.finish()
	verify(t, s, 1)

	snap, err := s.Open(t.Context(), h1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	if got := snap.Manifest().UploadStats(); got == nil || *got != (manifest.UploadStats{Count: 1, Size: 6, CompressedSize: 18}) {
		t.Errorf("upload statistics: %+v", got)
	}
}

// image writes a drive as QEMU does: the zero chunk first, known chunks not at
// all, and a tail that is shorter.
func (p *peer) image(name string, wid int, blocks [][]byte, known map[digest.Digest]bool) manifest.File {
	p.t.Helper()
	size, ds, offsets := 0, []digest.Digest(nil), []int64(nil)
	for _, b := range blocks {
		size += len(b)
	}
	if got := p.ok("POST", "/fixed_index", values("archive-name", name, "size", size), nil); got != fmt.Sprint(wid) {
		p.t.Fatalf("wid is %s, want %d", got, wid)
	}
	p.chunk("/fixed_chunk", wid, zeros)
	at := int64(0)
	for _, b := range blocks {
		d := digest.Of(b)
		if !known[d] && d != digest.Of(zeros) {
			p.chunk("/fixed_chunk", wid, b)
			known[d] = true
		}
		ds, offsets, at = append(ds, d), append(offsets, at), at+int64(len(b))
	}
	p.append("/fixed_index", wid, ds, offsets...)
	p.ok("POST", "/fixed_close", values("wid", wid, "chunk-count", len(ds), "size", size, "csum", sumOf(ds...)), nil)
	return manifest.File{Filename: name, CryptMode: manifest.ModeNone, Size: uint64(size), Csum: sumOf(ds...)}
}

// full is a first backup of a machine with two drives.
func full(t testing.TB, r Beginner, s names.Snapshot) {
	t.Helper()
	p := begin(t, config(r, s))
	p.refused(400, "no valid previous backup", "GET", "/previous", values("archive-name", "index.json.blob"), nil)
	known := map[digest.Digest]bool{}
	a := p.image("drive-scsi0.img.fidx", 1, [][]byte{block(1), zeros, block(2), block(3)[:5000]}, known)
	b := p.image("drive-scsi1.img.fidx", 2, [][]byte{block(2), block(3)[:5000]}, map[digest.Digest]bool{digest.Of(block(2)): true})
	p.manifest(s, a, b, p.blob("qemu-server.conf.blob", []byte("memory: 512\n")))
	p.finish()
}

func TestFirstBackupOfAMachine(t *testing.T) {
	s, _ := store(t)
	full(t, s, vm100)
	verify(t, s, 1)
}

// Known sums: an image of two zero blocks.
func TestZeroImage(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	f := p.image("d.img.fidx", 1, [][]byte{zeros, zeros}, map[digest.Digest]bool{})
	if f.Csum.String() != "03ae066c707c588592d9e27aa2444ca98423e0999024f1ceaa11a153790b37de" {
		t.Errorf("csum %s", f.Csum)
	}
	p.manifest(vm100, f)
	p.finish()
}

func TestIncrementalBackupSendsOnlyWhatChanged(t *testing.T) {
	s, _ := store(t)
	full(t, s, vm100)
	next := at(vm100, 60)
	p := begin(t, config(s, next))
	if got := p.ok("GET", "/previous_backup_time", nil, nil); got != "1717600000" {
		t.Errorf("previous backup: %s", got)
	}
	_, raw := p.call("GET", "/previous", values("archive-name", "drive-scsi0.img.fidx"), nil)
	old, err := fidx.Open(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := old.Sum()
	if err != nil {
		t.Fatal(err)
	}
	q := values("archive-name", "drive-scsi0.img.fidx", "size", old.Size, "reuse-csum", sum)
	p.refused(400, "doesn't match", "POST", "/fixed_index", values("archive-name", "drive-scsi0.img.fidx", "size", old.Size, "reuse-csum", digest.Of(nil)), nil)
	p.refused(400, "the image had", "POST", "/fixed_index", values("archive-name", "drive-scsi0.img.fidx", "size", old.Size+1, "reuse-csum", sum), nil)
	p.refused(400, "cannot reuse index", "POST", "/fixed_index", values("archive-name", "other.img.fidx", "size", old.Size, "reuse-csum", sum), nil)
	p.ok("POST", "/fixed_index", q, nil)
	d := p.chunk("/fixed_chunk", 1, block(9))
	p.append("/fixed_index", 1, []digest.Digest{d}, 4*mib)
	var ds []digest.Digest
	if err := old.Each(func(_ int, d digest.Digest) error { ds = append(ds, d); return nil }); err != nil {
		t.Fatal(err)
	}
	ds[1] = d
	p.ok("POST", "/fixed_close", values("wid", 1, "chunk-count", 1, "size", 4*mib, "csum", sumOf(ds...)), nil)

	// Nothing at all changed on the other drive.
	_, raw = p.call("GET", "/previous", values("archive-name", "drive-scsi1.img.fidx"), nil)
	other, err := fidx.Open(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	otherSum, err := other.Sum()
	if err != nil {
		t.Fatal(err)
	}
	p.ok("POST", "/fixed_index", values("archive-name", "drive-scsi1.img.fidx", "size", other.Size, "reuse-csum", otherSum), nil)
	p.ok("POST", "/fixed_close", values("wid", 2, "chunk-count", 0, "size", 0, "csum", otherSum), nil)

	p.manifest(next,
		manifest.File{Filename: "drive-scsi0.img.fidx", CryptMode: manifest.ModeNone, Size: old.Size, Csum: sumOf(ds...)},
		manifest.File{Filename: "drive-scsi1.img.fidx", CryptMode: manifest.ModeNone, Size: other.Size, Csum: otherSum})
	p.finish()
	verify(t, s, 2)
}

// Without a size the index grows with what comes, in any order, until a short
// chunk says where the end is.
func TestStreamedImageGrows(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.ok("POST", "/fixed_index", values("archive-name", "d.img.fidx"), nil)
	var ds []digest.Digest
	for i := range 3 {
		ds = append(ds, p.chunk("/fixed_chunk", 1, block(i)))
	}
	tail := p.chunk("/fixed_chunk", 1, []byte("the end"))
	p.append("/fixed_index", 1, []digest.Digest{ds[2], ds[0]}, 8*mib, 0)
	p.refused(400, "does not end the image", "PUT", "/fixed_index", nil, list{"wid": 1, "digest-list": []digest.Digest{tail}, "offset-list": []int{4 * mib}})
	p.append("/fixed_index", 1, []digest.Digest{ds[1], tail}, 4*mib, 12*mib)
	p.refused(400, "behind the image's end", "PUT", "/fixed_index", nil, list{"wid": 1, "digest-list": ds[:1], "offset-list": []int{16 * mib}})
	all := sumOf(ds[0], ds[1], ds[2], tail)
	p.refused(400, "unexpected file size", "POST", "/fixed_close", values("wid", 1, "chunk-count", 4, "size", 16*mib, "csum", all), nil)
	p.ok("POST", "/fixed_close", values("wid", 1, "chunk-count", 4, "size", 12*mib+7, "csum", all), nil)
	p.manifest(vm100, manifest.File{Filename: "d.img.fidx", CryptMode: manifest.ModeNone, Size: 12*mib + 7, Csum: all})
	p.finish()
	verify(t, s, 1)
}

// One client sends what it knows of an index in JSON, doubles its close, and
// looks at nothing.
func TestClientThatClosesTwiceStillFinishes(t *testing.T) {
	s, _ := store(t)
	h := names.Snapshot{Group: names.Group{Type: names.Host, ID: "h"}, Time: 5}
	p := begin(t, config(s, h))
	p.ok("POST", "/dynamic_index", nil, list{"archive-name": "s.didx"})
	d := p.chunk("/dynamic_chunk", 1, []byte("content"))
	sum := digest.Of(append([]byte{7, 0, 0, 0, 0, 0, 0, 0}, d[:]...))
	p.append("/dynamic_index", 1, []digest.Digest{d}, 0)
	q := list{"wid": 1, "chunk-count": 1, "size": 7, "csum": sum}
	p.ok("POST", "/dynamic_close", nil, q)
	p.refused(400, "not open", "POST", "/dynamic_close", nil, q)
	p.manifest(h, manifest.File{Filename: "s.didx", CryptMode: manifest.ModeNone, Size: 7, Csum: sum})
	p.finish()
	verify(t, s, 1)
}

func TestSpeedtestLeavesNothing(t *testing.T) {
	s, _ := store(t)
	group := names.Group{Type: names.Host, ID: "benchmark"}
	bench := names.Snapshot{Group: group, Time: 1717600000}
	if _, err := Begin(t.Context(), config(s, bench)); err == nil || !strings.Contains(err.Error(), "benchmarks only") {
		t.Fatalf("a backup of the benchmark's group: %v", err)
	}
	c := config(s, vm100)
	c.Request.Benchmark = true
	if _, err := Begin(t.Context(), c); err == nil {
		t.Fatal("a benchmark in another group")
	}
	for _, who := range []names.AuthID{owner, {User: "joe", Realm: "pbs"}} { // it does not matter whose group it is
		c = config(s, bench)
		c.Request.Benchmark, c.Auth = true, who
		p := begin(t, c)
		p.ok("POST", "/speedtest", nil, make([]byte, 4*mib))
		p.refused(400, "not kept", "POST", "/finish", nil, nil)
		if err := p.leave(); err != nil {
			t.Fatal(err)
		}
		if got := visible(t, s, group); len(got) > 0 {
			t.Fatalf("left behind: %v", got)
		}
	}
}

// The next backup, the log and a prune come right behind the answer.
func TestLocksAreFreeWhenFinishAnswers(t *testing.T) {
	s, _ := store(t)
	for i := range int64(5) {
		p := begin(t, config(s, at(vm100, i)))
		p.manifest(at(vm100, i), p.blob("a.conf.blob", []byte("x")))
		p.ok("POST", "/finish", nil, nil)
		if err := s.PutLog(t.Context(), at(vm100, i), encode(t, []byte("log"))); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			if _, err := s.ForgetGroup(t.Context(), names.Root, vm100.Group); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := visible(t, s, vm100.Group); len(got) != 1 {
		t.Fatalf("left are %v", got)
	}
}

func TestBaseIsTheNewestThatWasNotFoundDamaged(t *testing.T) {
	s, _ := store(t)
	for i := range int64(2) {
		p := begin(t, config(s, at(vm100, i)))
		p.manifest(at(vm100, i), p.blob("a.conf.blob", fmt.Append(nil, i)))
		p.finish()
	}
	p := begin(t, config(s, at(vm100, 2)))
	if got := p.ok("GET", "/previous_backup_time", nil, nil); got != "1717600001" {
		t.Errorf("previous backup: %s", got)
	}
	// It is locked as long as the session goes on.
	if err := s.Forget(t.Context(), at(vm100, 1)); err == nil {
		t.Error("the base of a running backup was removed")
	}
	_, raw := p.call("GET", "/previous", values("archive-name", "a.conf.blob"), nil)
	if raw != string(encode(t, []byte("1"))) {
		t.Errorf("previous blob is %q", raw)
	}
	p.refused(404, "no.conf.blob", "GET", "/previous", values("archive-name", "no.conf.blob"), nil)
	p.refused(400, "no.img.fidx", "GET", "/previous", values("archive-name", "no.img.fidx"), nil)
	if err := p.leave(); err == nil {
		t.Error("an unfinished session ended well")
	}
}
