package nbdclient

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func TestLyingRepliesAreErrors(t *testing.T) {
	const size = 64 << 10
	ones := bytes.Repeat([]byte{1}, 4096)
	type answer func(f *fake, r nbd.Request) []byte
	data := func(f *fake, r nbd.Request, flags nbd.ChunkFlags, off uint64, n int) []byte {
		return f.chunk(r, flags, nbd.ChunkOffsetData, dataAt(off, ones[:n]))
	}
	for _, tc := range []struct {
		name   string
		mode   nbd.Mode
		answer answer
	}{
		{"too short", nbd.Structured, func(f *fake, r nbd.Request) []byte { return data(f, r, nbd.FlagDone, r.Offset, 4095) }},
		{"gap", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return join(data(f, r, 0, r.Offset, 100), data(f, r, nbd.FlagDone, r.Offset+101, 4096-101))
		}},
		{"overlap", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return join(data(f, r, 0, r.Offset, 100), data(f, r, nbd.FlagDone, r.Offset+99, 4096-99))
		}},
		{"hole over data", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return join(data(f, r, 0, r.Offset, 4096), f.chunk(r, nbd.FlagDone, nbd.ChunkOffsetHole, holeAt(r.Offset, 4096)))
		}},
		{"before the request", nbd.Structured, func(f *fake, r nbd.Request) []byte { return data(f, r, nbd.FlagDone, r.Offset-1, 4096) }},
		{"behind the request", nbd.Structured, func(f *fake, r nbd.Request) []byte { return data(f, r, nbd.FlagDone, r.Offset+1, 4096) }},
		{"offset that wraps around", nbd.Structured, func(f *fake, r nbd.Request) []byte { return data(f, r, nbd.FlagDone, 1<<64-1, 4096) }},
		{"huge hole", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkOffsetHole, holeAt(r.Offset, 1<<32-1))
		}},
		{"empty hole", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkOffsetHole, holeAt(r.Offset, 0))
		}},
		{"huge chunk", nbd.Extended, func(f *fake, r nbd.Request) []byte {
			return nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkOffsetData, Cookie: r.Cookie, Offset: r.Offset, Length: 1<<64 - 1}.Append(nil, f.mode)
		}},
		{"huge error", nbd.Extended, func(f *fake, r nbd.Request) []byte {
			return nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkError, Cookie: r.Cookie, Offset: r.Offset, Length: 1 << 40}.Append(nil, f.mode)
		}},
		{"wrong cookie", nbd.Structured, func(f *fake, r nbd.Request) []byte { r.Cookie++; return data(f, r, nbd.FlagDone, r.Offset, 4096) }},
		{"wrong offset in the header", nbd.Extended, func(f *fake, r nbd.Request) []byte {
			b := data(f, r, nbd.FlagDone, r.Offset, 4096)
			b[23]++
			return b
		}},
		{"nothing at all", nbd.Structured, func(f *fake, r nbd.Request) []byte { return f.chunk(r, nbd.FlagDone, nbd.ChunkNone, nil) }},
		{"simple reply", nbd.Structured, func(_ *fake, r nbd.Request) []byte {
			return append(nbd.SimpleReply{Cookie: r.Cookie}.Append(nil), ones...)
		}},
		{"status", nbd.Structured, func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, nbd.BlockStatus{Context: 7, Extents: []nbd.Extent{{Length: 1}}}.Append(nil, false))
		}},
		{"unknown chunk", nbd.Structured, func(f *fake, r nbd.Request) []byte { return f.chunk(r, nbd.FlagDone, 77, ones) }},
		{"magic", nbd.Simple, func(*fake, nbd.Request) []byte { return ones }},
		{"wrong cookie in a simple reply", nbd.Simple, func(_ *fake, r nbd.Request) []byte {
			return append(nbd.SimpleReply{Cookie: r.Cookie + 1}.Append(nil), ones...)
		}},
		{"more fragments than any server sends", nbd.Structured, func(f *fake, r nbd.Request) (b []byte) {
			for i := range maxFragments + 1 {
				b = append(b, data(f, r, 0, r.Offset+2*uint64(i), 1)...)
			}
			return b
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &fake{mode: tc.mode, size: size}
			f.answer = func(r nbd.Request, _ []byte) ([]byte, error) { return tc.answer(f, r), nil }
			im := open(t, fakeURI, Options{Dial: f.dial})
			n := 4096
			if strings.Contains(tc.name, "fragments") {
				n = size / 2
			}
			if _, err := im.ReadAt(make([]byte, n), 4096); !errors.Is(err, ErrProtocol) {
				t.Fatalf("err = %v", err)
			}
			if _, err := im.ReadAt(make([]byte, n), 0); !errors.Is(err, ErrProtocol) || f.dialed() != 1 {
				t.Fatalf("it was asked again: %v, %d connections", err, f.dialed())
			}
		})
	}
}

func TestReplyInFragmentsOfAnyOrderIsPutTogether(t *testing.T) {
	for _, mode := range []nbd.Mode{nbd.Structured, nbd.Extended} {
		f := &fake{mode: mode, size: 1 << 20}
		f.answer = func(r nbd.Request, _ []byte) ([]byte, error) {
			return join(
				f.chunk(r, 0, nbd.ChunkOffsetData, dataAt(r.Offset+3000, []byte(strings.Repeat("c", int(r.Length)-3000)))),
				f.chunk(r, 0, nbd.ChunkOffsetHole, holeAt(r.Offset+1000, 2000)),
				f.chunk(r, 0, nbd.ChunkOffsetData, dataAt(r.Offset, []byte(strings.Repeat("a", 1000)))),
				f.chunk(r, nbd.FlagDone, nbd.ChunkNone, nil),
			), nil
		}
		got := bytes.Repeat([]byte("?"), 4096)
		if _, err := open(t, fakeURI, Options{Dial: f.dial}).ReadAt(got, 8192); err != nil {
			t.Fatal(err)
		}
		if want := strings.Repeat("a", 1000) + strings.Repeat("\x00", 2000) + strings.Repeat("c", 1096); string(got) != want {
			t.Errorf("%s: %q", mode, got)
		}
	}
}

func TestErrorChunkFailsTheReadAlone(t *testing.T) {
	f := &fake{mode: nbd.Structured, size: 1 << 20}
	content := bytes.Repeat([]byte("x"), 1<<20)
	f.answer = func(r nbd.Request, p []byte) ([]byte, error) {
		if r.Offset != 4096 {
			return f.honest(content)(r, p)
		}
		fail := nbd.ChunkFailure{Error: nbd.Error{Errno: nbd.EIO, Text: "chunk 12ab is damaged"}, Offset: r.Offset + 5}
		return join(f.chunk(r, 0, nbd.ChunkOffsetData, dataAt(r.Offset, content[:5])),
			f.chunk(r, nbd.FlagDone, nbd.ChunkErrorOffset, fail.Append(nil, nbd.ChunkErrorOffset))), nil
	}
	im := open(t, fakeURI, Options{Dial: f.dial, RequestSize: 4096})
	n, err := im.ReadAt(make([]byte, 12288), 0)
	if n != 4096 || err == nil || !strings.Contains(err.Error(), "chunk 12ab is damaged") {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := im.ReadAt(make([]byte, 4096), 8192); err != nil || f.dialed() != 1 {
		t.Fatalf("the next read: %v, %d connections", err, f.dialed())
	}
}

func TestLyingStatusIsAnError(t *testing.T) {
	ext := func(pairs ...uint64) (all []nbd.Extent) {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			all = append(all, nbd.Extent{Length: pairs[0], Flags: pairs[1]})
		}
		return all
	}
	for _, tc := range []struct {
		name   string
		answer func(f *fake, r nbd.Request) []byte
	}{
		{"no extents", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, []byte{0, 0, 0, 7})
		}},
		{"half an extent", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, []byte{0, 0, 0, 7, 0, 0, 1, 0})
		}},
		{"empty extent", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, nbd.BlockStatus{Context: 7, Extents: ext(0, 3)}.Append(nil, false))
		}},
		{"extent behind the request", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, nbd.BlockStatus{Context: 7, Extents: ext(1<<20, 3, 4096, 0)}.Append(nil, false))
		}},
		{"context nobody asked for", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, nbd.BlockStatus{Context: 8, Extents: ext(4096, 3)}.Append(nil, false))
		}},
		{"twice", func(f *fake, r nbd.Request) []byte {
			p := nbd.BlockStatus{Context: 7, Extents: ext(4096, 3)}.Append(nil, false)
			return join(f.chunk(r, 0, nbd.ChunkBlockStatus, p), f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatus, p))
		}},
		{"nothing", func(f *fake, r nbd.Request) []byte { return f.chunk(r, nbd.FlagDone, nbd.ChunkNone, nil) }},
		{"wide in a narrow dialect", func(f *fake, r nbd.Request) []byte {
			return f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatusExt, nbd.BlockStatus{Context: 7, Extents: ext(4096, 3)}.Append(nil, true))
		}},
		{"huge", func(f *fake, r nbd.Request) []byte {
			return nbd.Chunk{Flags: nbd.FlagDone, Type: nbd.ChunkBlockStatus, Cookie: r.Cookie, Length: 1<<32 - 4}.Append(nil, f.mode)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &fake{mode: nbd.Structured, size: 1 << 20, contexts: []string{nbd.BaseAllocation}}
			f.answer = func(r nbd.Request, _ []byte) ([]byte, error) { return tc.answer(f, r), nil }
			im := open(t, fakeURI, Options{Dial: f.dial})
			if e, err := im.ExtentAt(0); !errors.Is(err, ErrProtocol) {
				t.Fatalf("%+v, %v", e, err)
			}
		})
	}
}

func TestStatusJoinsShortRepliesAndCutsLongOnes(t *testing.T) {
	const size = 10 << 30 // one extended reply may say more than 4 GiB
	f := &fake{mode: nbd.Extended, size: size, contexts: []string{nbd.BaseAllocation, "x:y"}}
	f.answer = func(r nbd.Request, _ []byte) ([]byte, error) {
		step := uint64(1 << 30)
		a := nbd.BlockStatus{Context: 7, Extents: []nbd.Extent{{Length: step / 2, Flags: 3}, {Length: step / 2, Flags: 3}}}
		b := nbd.BlockStatus{Context: 8, Extents: []nbd.Extent{{Length: 1 << 63, Flags: 1<<40 + 5}}}
		return join(f.chunk(r, 0, nbd.ChunkBlockStatusExt, a.Append(nil, true)), f.chunk(r, nbd.FlagDone, nbd.ChunkBlockStatusExt, b.Append(nil, true))), nil
	}
	im := open(t, fakeURI, Options{Dial: f.dial, Contexts: []string{"x:y"}})
	for name, want := range map[string]string{nbd.BaseAllocation: fmt.Sprintf("5 %d 3;", size-7), "x:y": fmt.Sprintf("5 %d %d;", size-7, 1<<40+5)} {
		got := ""
		if err := im.Status(t.Context(), name, 5, size-7, func(off, n int64, flags uint64) error {
			got += fmt.Sprintf("%d %d %d;", off, n, flags)
			return nil
		}); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestHandshakeOfALiarEnds(t *testing.T) {
	flood := func(o nbd.Option, typ nbd.ReplyType, data []byte) []byte {
		return bytes.Repeat(nbd.AppendOptionReply(nil, o, typ, data), maxReplies+1)
	}
	hello := nbd.AppendGreeting(nil, nbd.FixedNewstyle|nbd.NoZeroes)
	no := join(hello, nbd.AppendOptionReply(nil, nbd.OptExtendedHeaders, nbd.RepErrUnsup, nil), nbd.AppendOptionReply(nil, nbd.OptStructuredReply, nbd.RepErrUnsup, nil))
	info := nbd.Info{Type: nbd.InfoExport, Size: 1 << 20, Flags: nbd.HasFlags}.Append(nil)
	sizes := func(b nbd.BlockSizes) []byte {
		return join(no, nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepInfo, info),
			nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepInfo, nbd.Info{Type: nbd.InfoBlockSize, Sizes: b}.Append(nil)),
			nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepAck, nil))
	}
	for _, tc := range []struct {
		name, words string
		says        []byte
	}{
		{"no server", "not an NBD server", []byte("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")},
		{"oldstyle", "oldstyle", append([]byte("NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"), make([]byte, 136)...)},
		{"silence after the greeting", "closed", hello},
		{"endless information", "replies", append(bytes.Clone(no), flood(nbd.OptGo, nbd.RepInfo, info)...)},
		{"huge reply", "bytes", append(bytes.Clone(no), nbd.OptionReply{Option: nbd.OptGo, Type: nbd.RepInfo, Length: 1<<32 - 1}.Append(nil)...)},
		{"answer to another option", "for option", append(bytes.Clone(no), nbd.AppendOptionReply(nil, nbd.OptList, nbd.RepAck, nil)...)},
		{"no size", "without size", append(bytes.Clone(no), nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepAck, nil)...)},
		{"size beyond 63 bits", "export of", join(no, nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepInfo, nbd.Info{Type: nbd.InfoExport, Size: 1 << 63}.Append(nil)))},
		{"blocks of no power of two", "blocks", sizes(nbd.BlockSizes{Minimum: 3, Preferred: 4096, Maximum: 4096})},
		{"blocks of nothing", "blocks", sizes(nbd.BlockSizes{})},
		{"no such export", "no export", join(no, nbd.AppendOptionReply(nil, nbd.OptGo, nbd.RepErrUnknown, []byte("try another")))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dial := pipeDial(func(nc net.Conn) {
				go func() { _, _ = io.Copy(io.Discard, nc) }()
				_, _ = nc.Write(tc.says)
				if strings.Contains(tc.name, "silence") {
					_ = nc.Close()
				}
			})
			im, err := Open(t.Context(), fakeURI, Options{Dial: dial})
			if err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Fatalf("%v, err = %v", im, err)
			}
		})
	}
}

func TestServerThatFallsSilentIsAnError(t *testing.T) {
	t.Run("in the handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dial := pipeDial(func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
			start := time.Now()
			_, err := Open(t.Context(), fakeURI, Options{Dial: dial})
			if !errors.Is(err, ErrTimeout) || time.Since(start) != defaultTimeout {
				t.Fatalf("%v after %s", err, time.Since(start))
			}
		})
	})
	t.Run("in a read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{mode: nbd.Structured, size: 1 << 20}
			f.answer = func(nbd.Request, []byte) ([]byte, error) { return nil, nil }
			im, err := Open(t.Context(), fakeURI, Options{Dial: f.dial, Timeout: 10 * time.Second, Patience: 25 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = im.ReadAt(make([]byte, 512), 0)
			if d := time.Since(start); !errors.Is(err, ErrTimeout) || d > 50*time.Second || f.dialed() < 2 {
				t.Errorf("%v after %s and %d connections", err, d, f.dialed())
			}
			_ = im.Close()
		})
	})
	t.Run("idle for a day", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{mode: nbd.Structured, size: 1 << 20}
			f.answer = f.honest(make([]byte, 1<<20))
			im, err := Open(t.Context(), fakeURI, Options{Dial: f.dial})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			if _, err := im.ReadAt(make([]byte, 512), 0); err != nil || f.dialed() != 1 {
				t.Errorf("%v, %d connections", err, f.dialed())
			}
			_ = im.Close()
		})
	})
	t.Run("a trickle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{mode: nbd.Simple, size: 1 << 20}
			f.answer = f.honest(make([]byte, 1<<20))
			slow := func(nc net.Conn) {
				_ = f.shake(nc)
				go func() { _, _ = io.Copy(io.Discard, nc) }()
				part := nbd.SimpleReply{Cookie: 1}.Append(nil)
				for _, b := range append(part, make([]byte, 512)...) {
					time.Sleep(defaultTimeout - time.Second)
					if _, err := nc.Write([]byte{b}); err != nil {
						return
					}
				}
			}
			im, err := Open(t.Context(), fakeURI, Options{Dial: pipeDial(slow), Patience: -1})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = im.ReadAt(make([]byte, 512), 0)
			if d := time.Since(start); !errors.Is(err, ErrTimeout) || d > (ageFactor+1)*defaultTimeout {
				t.Errorf("%v after %s", err, d)
			}
			_ = im.Close()
			time.Sleep(2 * defaultTimeout) // the server notices
		})
	})
}
