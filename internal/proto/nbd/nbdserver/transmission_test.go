package nbdserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// closedConn is a connection that nobody needs.
func closedConn(t *testing.T) net.Conn {
	t.Helper()
	a, b := net.Pipe()
	_ = a.Close()
	return b
}

// eachMode runs a test in every dialect.
func eachMode(t *testing.T, f func(t *testing.T, m nbd.Mode)) {
	t.Helper()
	for _, m := range []nbd.Mode{nbd.Simple, nbd.Structured, nbd.Extended} {
		t.Run(m.String(), func(t *testing.T) { f(t, m) })
	}
}

func TestReadsReturnTheImage(t *testing.T) {
	eachMode(t, func(t *testing.T, m nbd.Mode) {
		for _, inMemory := range []bool{false, true} {
			t.Run(fmt.Sprintf("in memory %t", inMemory), func(t *testing.T) { readsReturnTheImage(t, m, inMemory) })
		}
	})
}

func readsReturnTheImage(t *testing.T, m nbd.Mode, inMemory bool) {
	t.Helper()
	d := newDisk(1<<20 + 77)
	d.inMemory = inMemory
	c := serveOne(t, &nbdserver.Export{Image: d})
	c.open("", m)
	for _, r := range [][2]int{
		{0, 0},
		{0, 1},
		{0, 4096},
		{1, 4095},
		{block, 512},
		{0, 1<<20 + 77},
		{block - 10, 20},
		{1 << 20, 77},
		{1<<20 + 77, 0},
		{block - 10, 3 * block},
	} {
		for _, f := range []nbd.CommandFlags{0, nbd.FlagDF, nbd.FlagFUA} {
			if f == nbd.FlagDF && m == nbd.Simple {
				continue
			}
			a := c.do(nbd.Request{Type: nbd.CmdRead, Flags: f, Offset: uint64(r[0]), Length: uint64(r[1])})
			if a.err.Errno != nbd.OK || !bytes.Equal(a.data, d.b[r[0]:r[0]+r[1]]) {
				t.Fatalf("read %v flags %v: %v, or wrong bytes", r, f, a.err)
			}
			if f == nbd.FlagDF && (a.chunks != 1 || a.holes != 0) {
				t.Errorf("read %v with DF came in %d chunks with %d holes", r, a.chunks, a.holes)
			}
			zero := len(a.data) > 0 && bytes.Count(a.data, []byte{0}) == len(a.data)
			if m != nbd.Simple && f == 0 && zero != (a.holes > 0 && a.chunks == a.holes) {
				t.Errorf("read %v: zero %t, %d chunks, %d holes", r, zero, a.chunks, a.holes)
			}
		}
	}
}

func TestDeviceIsChanged(t *testing.T) {
	eachMode(t, func(t *testing.T, m nbd.Mode) {
		d := newDisk(1 << 20)
		s, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{{Image: d}}})
		c := connect(t, path)
		c.open("", m)
		do := func(r nbd.Request, payload ...[]byte) {
			t.Helper()
			if a := c.do(r, payload...); a.err.Errno != nbd.OK {
				t.Fatalf("%v: %v", r.Type, a.err)
			}
		}
		big := bytes.Repeat([]byte("holdfast"), 50_000)
		do(nbd.Request{Type: nbd.CmdWrite, Offset: 5, Length: uint64(len(big))}, big)
		do(nbd.Request{Type: nbd.CmdWrite, Offset: 1<<20 - 4, Length: 4, Flags: nbd.FlagFUA}, []byte("tail"))
		do(nbd.Request{Type: nbd.CmdWrite, Offset: 1 << 20, Length: 0})
		if !bytes.Equal(d.b[5:5+len(big)], big) || string(d.b[1<<20-4:]) != "tail" || d.flushed != 1 {
			t.Fatalf("what was written is not there, or flushed %d times", d.flushed)
		}
		do(nbd.Request{Type: nbd.CmdWriteZeroes, Offset: 10, Length: 100})
		do(nbd.Request{Type: nbd.CmdWriteZeroes, Offset: 200_000, Length: 100_000, Flags: nbd.FlagFastZero})
		if d.zeroed != 2 || bytes.Count(d.b[10:110], []byte{0}) != 100 || d.b[9] == 0 || d.b[110] == 0 {
			t.Errorf("zeroed %d times", d.zeroed)
		}
		do(nbd.Request{Type: nbd.CmdWriteZeroes, Offset: 0, Length: 1 << 20, Flags: nbd.FlagNoHole | nbd.FlagFUA})
		if d.zeroed != 2 || bytes.Count(d.b, []byte{0}) != len(d.b) || d.flushed != 2 {
			t.Errorf("NO_HOLE made a hole, or did not zero, or FUA did not flush")
		}
		if a := c.do(nbd.Request{Type: nbd.CmdWriteZeroes, Length: 10, Flags: nbd.FlagNoHole | nbd.FlagFastZero}); a.err.Errno != nbd.ENOTSUP {
			t.Errorf("fast zeros that take space: %v", a.err)
		}
		do(nbd.Request{Type: nbd.CmdTrim, Offset: 10, Length: 100})
		do(nbd.Request{Type: nbd.CmdFlush})
		do(nbd.Request{Type: nbd.CmdCache, Offset: 10, Length: 100})
		if d.discarded != 1 || d.flushed != 3 || d.adv != 1 {
			t.Errorf("discarded %d, flushed %d, advised %d times", d.discarded, d.flushed, d.adv)
		}
		st := s.Stats()
		e := st.Exports[0]
		if st.Connections != 1 || e.Connections != 1 || e.Writes != 3 || e.BytesWritten != int64(len(big))+4 || e.Zeroes != 4 ||
			e.Trims != 1 || e.Flushes != 1 || e.Caches != 1 || e.Failures != 1 {
			t.Errorf("statistics: %+v", st)
		}
	})
}

func TestRequestsAreRefused(t *testing.T) {
	eachMode(t, func(t *testing.T, m nbd.Mode) {
		_, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{
			{Name: "rw", Image: newDisk(1 << 20)}, {Name: "ro", Image: newDisk(1 << 20), ReadOnly: true},
		}})
		rw, ro := connect(t, path), connect(t, path)
		rw.open("rw", m)
		ro.open("ro", m)
		const mib = 1 << 20
		for _, tc := range []struct {
			c    *client
			r    nbd.Request
			want nbd.Errno
		}{
			{rw, nbd.Request{Type: nbd.CmdRead, Offset: mib, Length: 1}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdRead, Offset: mib - 1, Length: 2}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdRead, Offset: 1<<64 - 1, Length: 2}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdRead, Length: 1<<32 - 1}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdRead, Flags: 1 << 15, Length: 1}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdRead, Flags: nbd.FlagNoHole, Length: 1}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdWrite, Offset: mib - 1, Length: 2}, nbd.ENOSPC},
			{rw, nbd.Request{Type: nbd.CmdWrite, Flags: nbd.FlagDF, Length: 70_000}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdWriteZeroes, Offset: mib, Length: 2}, nbd.ENOSPC},
			{rw, nbd.Request{Type: nbd.CmdTrim, Offset: mib, Length: 2}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdCache, Offset: mib, Length: 2}, nbd.EINVAL},
			{rw, nbd.Request{Type: nbd.CmdBlockStatus, Length: 2}, nbd.EINVAL}, // no context
			{rw, nbd.Request{Type: nbd.CmdResize, Length: 2}, nbd.EINVAL},
			{rw, nbd.Request{Type: 99}, nbd.EINVAL},
			{ro, nbd.Request{Type: nbd.CmdWrite, Length: 100_000}, nbd.EPERM},
			{ro, nbd.Request{Type: nbd.CmdWrite, Flags: nbd.FlagFUA, Length: 1}, nbd.EPERM},
			{ro, nbd.Request{Type: nbd.CmdTrim, Length: 1}, nbd.EPERM},
			{ro, nbd.Request{Type: nbd.CmdWriteZeroes, Length: 1}, nbd.EPERM},
			{ro, nbd.Request{Type: nbd.CmdFlush}, nbd.OK},
		} {
			var payload []byte
			if tc.r.Type == nbd.CmdWrite {
				payload = make([]byte, tc.r.Length)
			}
			a := tc.c.do(tc.r, payload)
			if a.err.Errno != tc.want || m != nbd.Simple && tc.want != nbd.OK && a.err.Text == "" {
				t.Errorf("%+v: %v %q, want %v and a text", tc.r, a.err.Errno, a.err.Text, tc.want)
			}
		}
		if a := rw.do(nbd.Request{Type: nbd.CmdRead, Length: 1}); a.err.Errno != nbd.OK {
			t.Errorf("after all that a good read is refused: %v", a.err)
		}
	})
}

func TestLongReadsOfBigExports(t *testing.T) {
	eachMode(t, func(t *testing.T, m nbd.Mode) {
		c := serveOne(t, &nbdserver.Export{Image: nothing(1 << 40)})
		c.open("", m)
		if a := c.do(nbd.Request{Type: nbd.CmdRead, Offset: 1 << 39, Length: nbd.MaxPayload}); a.err.Errno != nbd.OK || len(a.data) != nbd.MaxPayload {
			t.Errorf("the longest read: %v", a.err)
		}
		r := nbd.Request{Type: nbd.CmdRead, Cookie: 1, Length: nbd.MaxPayload + 1}
		c.send(r)
		if a := c.receive(nbd.Request{Type: nbd.CmdRead}); a.err.Errno != nbd.EINVAL {
			t.Errorf("a longer read: %v", a.err)
		}
		if m != nbd.Simple {
			r.Flags = nbd.FlagDF
			c.send(r)
			if a := c.receive(nbd.Request{Type: nbd.CmdRead}); a.err.Errno != nbd.EOVERFLOW {
				t.Errorf("a longer read with DF: %v", a.err)
			}
		}
		c.send(nbd.Request{Type: nbd.CmdWrite, Flags: nbd.FlagPayloadLen, Length: nbd.MaxPayload + 1})
		c.gone()
	})
}

// nothing is an image of zeros that does not know it.
type nothing int64

func (n nothing) Size() int64 { return int64(n) }

func (nothing) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func TestFailuresOfTheImageHaveTextAndPlace(t *testing.T) {
	eachMode(t, func(t *testing.T, m nbd.Mode) {
		img := image.Faulty{Image: newDisk(1 << 20), Bad: 70_000, Length: 1, Err: errors.New("chunk 3f4a is corrupt")}
		c := serveOne(t, &nbdserver.Export{Image: img})
		c.open("", m)
		a := c.do(nbd.Request{Type: nbd.CmdRead, Offset: 69_000, Length: 2000})
		if a.err.Errno != nbd.EIO || m != nbd.Simple && (a.err.Offset != 70_000 || !strings.Contains(a.err.Text, "chunk 3f4a is corrupt")) {
			t.Errorf("the failure is %+v", a.err)
		}
		if a := c.do(nbd.Request{Type: nbd.CmdRead, Length: 2000}); a.err.Errno != nbd.OK {
			t.Errorf("the next read: %v", a.err)
		}
	})
}

func TestFailuresOfADeviceKeepTheirNumber(t *testing.T) {
	d := newDisk(1 << 20)
	c := serveOne(t, &nbdserver.Export{Image: d})
	c.open("", nbd.Structured)
	d.fail = fmt.Errorf("overlay: %w", syscall.ENOSPC)
	for _, cmd := range []nbd.Command{nbd.CmdWrite, nbd.CmdTrim, nbd.CmdWriteZeroes, nbd.CmdFlush} {
		var payload []byte
		if cmd == nbd.CmdWrite {
			payload = make([]byte, 10)
		}
		if a := c.do(nbd.Request{Type: cmd, Length: 10}, payload); a.err.Errno != nbd.ENOSPC || !strings.Contains(a.err.Text, "overlay") {
			t.Errorf("%v of a full device: %v", cmd, a.err)
		}
	}
}

func TestBlockStatusMergesExtents(t *testing.T) {
	const size = 10 * block
	want := []nbd.Extent{{Length: 2 * block}, {Length: 7*block - 1, Flags: 3}, {Length: block + 1}}
	for _, m := range []nbd.Mode{nbd.Structured, nbd.Extended} {
		t.Run(m.String(), func(t *testing.T) {
			d := &disk{b: make([]byte, size)}
			d.b[0], d.b[block], d.b[size-1], d.b[9*block-1] = 1, 1, 1, 0
			want[1].Length, want[2].Length = 7*block, block
			c := serveOne(t, &nbdserver.Export{Image: d, Align: 1 << 20, Contexts: []nbdserver.Context{stripes("x:s")}})
			c.open("", m, "x:s", nbd.BaseAllocation)
			const all = 1 << 20
			a := c.do(nbd.Request{Type: nbd.CmdBlockStatus, Length: all})
			base := append(want[:3:3], nbd.Extent{Length: all - size, Flags: 3})
			if len(a.status) != 2 || !reflect.DeepEqual(a.status[0].Extents, base) {
				t.Fatalf("status %+v, want %+v", a.status, base)
			}
			a = c.do(nbd.Request{Type: nbd.CmdBlockStatus, Flags: nbd.FlagReqOne, Offset: 5, Length: 3 * block})
			if one := []nbd.Extent{{Length: 2*block - 5}}; !reflect.DeepEqual(a.status[0].Extents, one) {
				t.Errorf("with REQ_ONE %+v, want %+v", a.status[0].Extents, one)
			}
			if one := []nbd.Extent{{Length: 95}}; !reflect.DeepEqual(a.status[1].Extents, one) {
				t.Errorf("with REQ_ONE %+v, want %+v", a.status[1].Extents, one)
			}
			a = c.do(nbd.Request{Type: nbd.CmdBlockStatus, Length: all})
			if n := len(a.status[1].Extents); n != 4096 {
				t.Errorf("a long list has %d extents, want what the limit allows", n)
			}
			a = c.do(nbd.Request{Type: nbd.CmdBlockStatus})
			if a.err.Errno != nbd.EINVAL {
				t.Errorf("status of nothing: %v", a.err)
			}
		})
	}
}

func TestBlockStatusFilter(t *testing.T) {
	c := serveOne(t, &nbdserver.Export{Image: nothing(1 << 44), Contexts: []nbdserver.Context{stripes("x:a"), stripes("x:b")}})
	c.open("", nbd.Extended, nbd.BaseAllocation, "x:b")
	ask := func(f nbd.StatusFilter) answer {
		t.Helper()
		p := f.Append(nil)
		r := nbd.Request{Type: nbd.CmdBlockStatus, Flags: nbd.FlagPayloadLen, Length: uint64(len(p))}
		return c.do(r, p)
	}
	a := ask(nbd.StatusFilter{Length: 1 << 43, Contexts: []uint32{0}})
	if want := []nbd.BlockStatus{{Extents: []nbd.Extent{{Length: 1 << 43}}}}; !reflect.DeepEqual(a.status, want) {
		t.Errorf("the allocation of 8 TiB: %+v %v", a.status, a.err)
	}
	if a = ask(nbd.StatusFilter{Length: 100, Contexts: []uint32{2}}); len(a.status) != 1 || a.status[0].Context != 2 {
		t.Errorf("one context: %+v %v", a.status, a.err)
	}
	if a = ask(nbd.StatusFilter{Length: 100, Contexts: []uint32{2, 0}}); len(a.status) != 2 {
		t.Errorf("both contexts: %+v %v", a.status, a.err)
	}
	for _, bad := range []nbd.StatusFilter{
		{Length: 100},
		{Length: 100, Contexts: []uint32{1}},
		{Length: 100, Contexts: []uint32{0, 0}},
		{Contexts: []uint32{0}},
		{Length: 1 << 45, Contexts: []uint32{0}},
		{Length: 100, Contexts: make([]uint32, 100)},
	} {
		if a := ask(bad); a.err.Errno != nbd.EINVAL {
			t.Errorf("%+v: %v", bad, a.err)
		}
	}
	for _, cmd := range []nbd.Command{nbd.CmdRead, nbd.CmdTrim, nbd.CmdFlush} { // the payload must not be taken for a request
		if a := c.do(nbd.Request{Type: cmd, Flags: nbd.FlagPayloadLen, Length: 9}, make([]byte, 9)); a.err.Errno == nbd.OK {
			t.Errorf("%v with a payload is accepted", cmd)
		}
	}
	if a := c.do(nbd.Request{Type: nbd.CmdBlockStatus, Length: 1 << 43}); len(a.status) != 2 || a.status[0].Extents[0].Length != 1<<43 {
		t.Errorf("after all that: %+v", a)
	}
}

func TestContextsAreOnlyThoseOfTheChosenExport(t *testing.T) {
	_, path := start(t, nbdserver.Options{Exports: []*nbdserver.Export{
		{Name: "a", Image: newDisk(1000)}, {Name: "b", Image: newDisk(1000)},
	}})
	c := connect(t, path)
	c.greet(nbd.FixedNewstyle)
	c.must(nbd.OptStructuredReply, nil)
	c.must(nbd.OptSetMetaContext, nbd.MetaRequest{Export: "a", Queries: []string{nbd.BaseAllocation}}.Append(nil))
	c.must(nbd.OptGo, nbd.InfoRequest{Export: "b"}.Append(nil))
	c.mode = nbd.Structured
	if a := c.do(nbd.Request{Type: nbd.CmdBlockStatus, Length: 10}); a.err.Errno != nbd.EINVAL {
		t.Errorf("status with another export's selection: %v", a.err)
	}
}

func TestPaddingIsZeroAndStaysSo(t *testing.T) {
	d := newDisk(1000)
	c := serveOne(t, &nbdserver.Export{Image: d, Align: 512})
	c.open("", nbd.Structured)
	a := c.do(nbd.Request{Type: nbd.CmdRead, Offset: 512, Length: 512})
	if a.err.Errno != nbd.OK || !bytes.Equal(a.data, append(bytes.Clone(d.b[512:]), make([]byte, 24)...)) {
		t.Errorf("the last sector: %v %x", a.err, a.data)
	}
	sector := bytes.Repeat([]byte{1}, 512)
	if a := c.do(nbd.Request{Type: nbd.CmdWrite, Offset: 512, Length: 512}, sector); a.err.Errno != nbd.ENOSPC {
		t.Errorf("writing into the padding: %v", a.err)
	}
	clear(sector[1000-512:])
	if a := c.do(nbd.Request{Type: nbd.CmdWrite, Offset: 512, Length: 512}, sector); a.err.Errno != nbd.OK || d.b[999] != 1 {
		t.Errorf("writing the last sector: %v", a.err)
	}
	for _, cmd := range []nbd.Command{nbd.CmdTrim, nbd.CmdWriteZeroes, nbd.CmdCache} {
		for _, off := range []uint64{0, 1000} {
			if a := c.do(nbd.Request{Type: cmd, Offset: off, Length: 1024 - off}); a.err.Errno != nbd.OK {
				t.Errorf("%v at %d: %v", cmd, off, a.err)
			}
		}
	}
}
