package nbdserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// tool runs a program of others with a deadline and returns what it prints.
// Without the program the test is skipped, except in CI.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func tryTool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shell runs Python with libnbd; h is a handle that is not yet connected.
func shell(t *testing.T, path, script string) {
	t.Helper()
	// The system's Python has the module, whatever python3 is first in PATH.
	python := "/usr/bin/python3"
	if out, err := tryTool(t, python, "-c", "import nbd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("python3-libnbd: %v\n%s", err, out)
		}
		t.Skipf("python3-libnbd: %v\n%s", err, out)
	}
	tool(t, python, "-c", "import nbd, errno\nh = nbd.NBD()\npath = "+`"`+path+`"`+"\n"+script)
}

func TestLibnbdListsAndMaps(t *testing.T) {
	d := newDisk(4*block + 100)
	_, path := start(t, nbdserver.Options{Default: "disk", Exports: []*nbdserver.Export{
		{Name: "disk", Description: "a disk", Image: d, ReadOnly: true, Contexts: []nbdserver.Context{stripes("x-holdfast:s")}},
		{Name: "other/b c", Image: newDisk(1000)},
	}})
	uri := "nbd+unix:///?socket=" + path
	var list struct {
		Protocol string `json:"protocol"`
		Exports  []struct {
			Name     string   `json:"export-name"`
			Size     int64    `json:"export-size"`
			Text     string   `json:"description"`
			Contexts []string `json:"contexts"`
			ReadOnly bool     `json:"is_read_only"`
			Multi    bool     `json:"can_multi_conn"`
		} `json:"exports"`
	}
	if err := json.Unmarshal([]byte(tool(t, "nbdinfo", "--json", "--list", uri)), &list); err != nil {
		t.Fatal(err)
	}
	if list.Protocol != "newstyle-fixed" || len(list.Exports) != 2 {
		t.Fatalf("%+v", list)
	}
	e := list.Exports[0]
	if e.Name != "disk" || e.Text != "a disk" || e.Size != d.Size() || !e.ReadOnly || !e.Multi ||
		!slices.Equal(e.Contexts, []string{"base:allocation", "x-holdfast:s"}) {
		t.Errorf("%+v", e)
	}
	var extents []struct {
		Offset, Length int64
		Type           int
	}
	if err := json.Unmarshal([]byte(tool(t, "nbdinfo", "--json", "--map", uri)), &extents); err != nil {
		t.Fatal(err)
	}
	if len(extents) != 5 || extents[1].Type != 3 || extents[1].Length != block || extents[4].Length != 100 {
		t.Errorf("%+v", extents)
	}
}

func TestLibnbdUsesEverything(t *testing.T) {
	d := newDisk(1 << 20)
	_, path := start(t, nbdserver.Options{Exports: one(d)})
	shell(t, path, `
h.add_meta_context("base:allocation")
h.connect_unix(path)
assert h.get_structured_replies_negotiated() and h.can_meta_context("base:allocation")
assert h.can_df() and h.can_fua() and h.can_zero() and h.can_trim() and h.can_multi_conn() and h.can_cache() and h.can_flush() and h.can_fast_zero()
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20
a = h.pread(200000, 1000)
kinds = []
def chunk(buf, off, status, err):
    kinds.append((status, off, len(buf)))
assert h.pread_structured(200000, 1000, chunk, nbd.CMD_FLAG_DF) == a
assert kinds == [(nbd.READ_DATA, 1000, 200000)], kinds
h.pread_structured(262144, 0, chunk)
assert nbd.READ_HOLE in [k[0] for k in kinds], kinds
h.pwrite(b"x" * 100000, 70000, nbd.CMD_FLAG_FUA)
assert h.pread(100000, 70000) == b"x" * 100000
h.zero(65536, 131072, nbd.CMD_FLAG_NO_HOLE)
h.zero(65536, 131072, nbd.CMD_FLAG_FAST_ZERO)
h.trim(4096, 0)
h.cache(4096, 0)
h.flush()
got = []
def extent(ctx, off, entries, err):
    got.extend(entries)
h.block_status(1 << 20, 0, extent)
assert sum(got[::2]) == 1 << 20 and got[1] == 0, got
h.set_strict_mode(0)
for f, want in ((lambda: h.pread(10, 1 << 20), errno.EINVAL), (lambda: h.pwrite(b"x" * 10, 1 << 20), errno.ENOSPC), (lambda: h.zero(10, 0, 18), errno.ENOTSUP)):
    try:
        f()
        assert False
    except nbd.Error as e:
        assert e.errnum == want, e
# many requests at a time over two connections
g = nbd.NBD()
g.connect_unix(path)
want = h.pread(1 << 20, 0)
bufs = []
for i in range(64):
    b = nbd.Buffer(16384)
    (h if i % 2 else g).aio_pread(b, i * 16384)
    bufs.append(b)
for x in (h, g):
    while x.aio_in_flight() > 0:
        x.poll(-1)
assert b"".join(bytes(b.to_bytearray()) for b in bufs) == want
g.shutdown()
h.shutdown()
`)
}

func TestLibnbdWithoutStructuredReplies(t *testing.T) {
	d := newDisk(1 << 20)
	_, path := start(t, nbdserver.Options{Exports: one(d)})
	shell(t, path, `
h.set_request_structured_replies(False)
h.set_handshake_flags(0)
h.connect_unix(path)
assert not h.get_structured_replies_negotiated() and not h.can_df()
a = h.pread(1 << 20, 0)
h.pwrite(a[:4096], 65536)
assert h.pread(4096, 65536) == a[:4096]
h.shutdown()
`)
}

func TestNbdcopyReadsAndWrites(t *testing.T) {
	d, e := newDisk(3<<20+512), newDisk(3<<20+512)
	clear(e.b)
	_, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{{Name: "a", Image: d, ReadOnly: true}, {Name: "b", Image: e}}})
	tool(t, "nbdcopy", "nbd+unix:///a?socket="+path, "nbd+unix:///b?socket="+path)
	if !bytes.Equal(d.b, e.b) {
		t.Error("the copy is different")
	}
	file := filepath.Join(t.TempDir(), "copy")
	tool(t, "nbdcopy", "--flush", "nbd+unix:///b?socket="+path, file)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, d.b) {
		t.Errorf("the copy in a file is different, %v", err)
	}
}

func TestQEMUReadsAndWrites(t *testing.T) {
	d := newDisk(3 << 20)
	_, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{{Name: "disk", Image: d}}})
	uri := "nbd+unix:///disk?socket=" + path
	for _, args := range [][]string{
		{"-c", "write -P 0x33 0 100k", "-c", "read -P 0x33 0 100k"},
		{"-c", "write -f -P 0x34 70000 4000", "-c", "read -P 0x34 70000 4000", "-c", "flush"},
		{"-c", "write -z 64k 64k", "-c", "read -P 0 64k 64k", "-c", "write -z -u 128k 64k", "-c", "read -P 0 128k 64k"},
		{"-c", "discard 1M 64k"},
	} {
		out := tool(t, "qemu-io", append(append([]string{"-f", "raw"}, args...), uri)...)
		if strings.Contains(out, "failed") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, d.b, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri, raw)
	qcow := raw + ".qcow2"
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, qcow)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, qcow)
	var extents []struct {
		Start, Length int64
		Zero          bool
	}
	if err := json.Unmarshal([]byte(tool(t, "qemu-img", "map", "--output=json", "-f", "raw", uri)), &extents); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(extents, func(e struct {
		Start, Length int64
		Zero          bool
	},
	) bool {
		return e.Zero && e.Length >= block
	}) {
		t.Errorf("qemu-img sees no zeros: %+v", extents)
	}
	tool(t, "qemu-img", "bench", "-f", "raw", "-c", "500", "-d", "32", "-s", "4096", uri)
}

func TestFioChecksWhatItWrote(t *testing.T) {
	d := newDisk(4 << 20)
	_, path := start(t, nbdserver.Options{Exports: one(d)})
	if out, err := tryTool(t, "fio", "--enghelp"); err != nil || !strings.Contains(out, "nbd") {
		t.Skip("fio has no nbd engine")
	}
	tool(t, "fio", "--name=x", "--ioengine=nbd", "--uri=nbd+unix:///?socket="+path, "--rw=randwrite", "--bs=4k", "--iodepth=16",
		"--size=4M", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1")
}
