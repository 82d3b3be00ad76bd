package chunker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/chunker"
)

// segment is a chunk of a payload stream, or the run of an injection.
type segment struct {
	End      int64
	Injected bool
}

// announcement is a hint (Size 0) or an injection and the number of pieces that
// arrive before it.
type announcement struct {
	After int `json:"visible_after_pieces"`
	chunker.Injection
}

func (a *announcement) UnmarshalJSON(b []byte) error {
	var v struct {
		After        int `json:"visible_after_pieces"`
		Offset, Size int64
	}
	err := json.Unmarshal(b, &v)
	*a = announcement{v.After, chunker.Injection{At: v.Offset, Size: v.Size}}
	return err
}

// payloadEnds cuts data that arrives in pieces of the given lengths.
func payloadEnds(t errorer, avg int, data []byte, lengths []int, hints, injections []announcement) []segment {
	t.Helper()
	p, err := chunker.NewPayload(avg)
	if err != nil {
		t.Fatal(err)
	}
	var found []segment
	size := 0
	cut := func(injected int64) {
		if end := p.Offset() - injected; size > 0 {
			found = append(found, segment{end, false})
		}
		if injected > 0 {
			found = append(found, segment{p.Offset(), true})
		}
		size = 0
	}
	due := slices.Clone(injections)
	for i, n := range lengths {
		for len(hints) > 0 && hints[0].After <= i+1 {
			p.Hint(hints[0].At)
			hints = hints[1:]
		}
		for len(injections) > 0 && injections[0].After <= i+1 {
			if err := p.Inject(injections[0].Injection); err != nil {
				t.Fatal(err)
			}
			injections = injections[1:]
		}
		piece := data[:n]
		data = data[n:]
		for more := true; more; {
			k, ev := p.Scan(piece)
			piece = piece[k:]
			size += k
			switch ev {
			case chunker.More:
				more = false
			case chunker.Cut:
				cut(0)
			case chunker.Inject:
				cut(due[0].Size)
				due = due[1:]
			}
		}
	}
	cut(0)
	if err := p.Close(); err != nil || len(data) > 0 || len(due) > 0 {
		t.Fatalf("close: %v, %d bytes and %d injections left", err, len(data), len(due))
	}
	return found
}

type errorer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// slowPayload is the rule written down plainly: one buffer, one piece appended,
// every byte hashed again in every scan.
func slowPayload(table []uint32, avg int, data []byte, lengths []int, hints, injections []announcement) []segment {
	var (
		found []segment
		buf   []byte // the current chunk, from base on
		base  int64
		pos   int // scanned bytes of buf
		queue []int64
		inj   []chunker.Injection
	)
	plain := func() int {
		var h uint32
		for i, b := range buf {
			h = bits.RotateLeft32(h, 1) ^ table[b]
			if i >= 64 {
				h ^= table[buf[i-64]]
			}
			if n := i + 1; n > pos && n > 64 && (n >= 4*avg || n >= avg/4 && h&uint32(2*avg-1) >= uint32(2*avg-3)) {
				return n
			}
		}
		return 0
	}
	scan := func() int {
		for len(queue) > 0 {
			x := queue[0]
			n := x - base
			switch {
			case x < base+int64(pos):
				queue = queue[1:]
			case x > base+int64(len(buf)):
				return plain()
			case n < int64(avg/4):
				queue = queue[1:]
			case n > int64(4*avg):
				return plain()
			default:
				queue = queue[1:]
				if n == int64(pos) {
					return plain()
				}
				return int(n)
			}
		}
		return plain()
	}
	take := func(n int) {
		if n > 0 {
			found = append(found, segment{base + int64(n), false})
		}
		buf, base, pos = buf[n:], base+int64(n), 0
	}
	for i, n := range lengths {
		for ; len(hints) > 0 && hints[0].After <= i+1; hints = hints[1:] {
			queue = append(queue, hints[0].At)
		}
		for ; len(injections) > 0 && injections[0].After <= i+1; injections = injections[1:] {
			inj = append(inj, injections[0].Injection)
		}
		buf = append(buf, data[:n]...)
		data = data[n:]
		for {
			cut := 0
			if pos < len(buf) {
				cut = scan()
			}
			end := cut
			if cut == 0 {
				end = len(buf)
			}
			if len(inj) > 0 && base+int64(end) >= inj[0].At {
				take(int(inj[0].At - base))
				base += inj[0].Size
				found = append(found, segment{base, true})
				inj = inj[1:]
				continue
			}
			if cut == 0 {
				pos = len(buf)
				break
			}
			take(cut)
		}
	}
	take(len(buf))
	return found
}

type payloadCase struct {
	Name         string
	Avg          int
	FileSizes    []int  `json:"file_sizes"`
	Content      string // says the seed
	StreamSHA256 string `json:"stream_sha256"`
	Pieces       []int
	Hints        []int64
	Known        struct{ Ends []int64 } `json:"hints_known_in_advance"`
	Late         struct{ Ends []int64 } `json:"hints_known_one_piece_late"`
	Plain        []int                  `json:"plain_chunker_ends"`
	HintsAt      []announcement         `json:"hints_at"`
	InjectionsAt []announcement         `json:"injections_at"`
	Segments     []struct {
		Size     int64
		Injected bool
	}
}

func payloadVectors(t testing.TB) map[string]payloadCase {
	b, err := os.ReadFile("testdata/payload-chunker.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []payloadCase }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	cases := map[string]payloadCase{}
	for _, c := range file.Cases {
		cases[c.Name] = c
	}
	if len(cases) < 4 {
		t.Fatalf("%d vectors", len(cases))
	}
	return cases
}

// encode writes a payload stream as an encoder does, and returns the pieces, the
// offsets of the files' headers and all bytes.
func encode(t testing.TB, sizes []int, content func(i, n int) []byte) (stream []byte, lengths []int, hints []int64) {
	w := chunker.NewPieces(func(piece []byte) error {
		stream = append(stream, piece...)
		lengths = append(lengths, len(piece))
		return nil
	})
	at := int64(0)
	write := func(b []byte) {
		if n, err := w.Write(b); err != nil || n != len(b) {
			t.Fatal(n, err)
		}
		at += int64(len(b))
	}
	header := func(kind uint64, size int) {
		write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, kind), uint64(16+size)))
	}
	header(0x834c68c2194a4ed2, 0)
	for i, n := range sizes {
		hints = append(hints, at)
		header(0x28147a1b0b7c1a25, n)
		for b := range slices.Chunk(content(i, n), 4<<20) {
			write(b)
		}
	}
	header(0x6c72b78b984c81b5, 0)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return stream, lengths, hints
}

func TestGoldenPayloadBoundaries(t *testing.T) {
	seeds := map[string]string{"default-avg-mixed": "a", "small-files-64k": "b", "many-small-4m": "c"}
	for name, c := range payloadVectors(t) {
		seed, ok := seeds[name]
		if !ok {
			continue
		}
		delete(seeds, name)
		t.Run(name, func(t *testing.T) {
			stream, lengths, hints := encode(t, c.FileSizes, func(i, n int) []byte {
				return sha256Counter(fmt.Sprintf("holdfast-ppxar-%s-%d", seed, i), n)
			})
			if sum := sha256.Sum256(stream); hex.EncodeToString(sum[:]) != c.StreamSHA256 {
				t.Fatalf("the stream has %d bytes, SHA-256 %x", len(stream), sum)
			}
			if !slices.Equal(lengths, c.Pieces) || !slices.Equal(hints, c.Hints) {
				t.Fatalf("pieces %v, want %v; hints %v, want %v", lengths, c.Pieces, hints, c.Hints)
			}
			var known, late []announcement
			for _, h := range hints {
				known = append(known, announcement{0, chunker.Injection{At: h}})
				start, after := int64(0), 0
				for ; after < len(lengths) && start+int64(lengths[after]) <= h; after++ {
					start += int64(lengths[after])
				}
				late = append(late, announcement{after + 1, chunker.Injection{At: h}})
			}
			if got := ends(payloadEnds(t, c.Avg, stream, lengths, known, nil)); !slices.Equal(got, c.Known.Ends) {
				t.Errorf("hints in advance: got %v, want %v", got, c.Known.Ends)
			}
			if got := ends(payloadEnds(t, c.Avg, stream, lengths, late, nil)); !slices.Equal(got, c.Late.Ends) {
				t.Errorf("hints one piece late: got %v, want %v", got, c.Late.Ends)
			}
			if got := pieces(c.Avg, stream, whole); !slices.Equal(got, c.Plain) {
				t.Errorf("plain: got %v, want %v", got, c.Plain)
			}
		})
	}
	if len(seeds) > 0 {
		t.Errorf("no vectors %v", seeds)
	}
}

func ends(found []segment) (all []int64) {
	for _, s := range found {
		all = append(all, s.End)
	}
	return all
}

func TestGoldenInjections(t *testing.T) {
	c := payloadVectors(t)["injection"]
	var want []segment
	end := int64(0)
	for _, s := range c.Segments {
		end += s.Size
		want = append(want, segment{end, s.Injected})
	}
	data := sha256Counter("holdfast-pxar-chunker-v1", 3<<20)
	if got := payloadEnds(t, c.Avg, data, c.Pieces, c.HintsAt, c.InjectionsAt); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := slowPayload(golden(t).Table, c.Avg, data, c.Pieces, c.HintsAt, c.InjectionsAt); !slices.Equal(got, want) {
		t.Errorf("the plain rule gives %v, want %v", got, want)
	}
}

func TestPayloadAgreesWithThePlainRule(t *testing.T) {
	table := golden(t).Table
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		data := make([]byte, rapid.IntRange(0, 600_000).Draw(t, "size"))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		clear(data[:rng.IntN(len(data)+1)])
		most := rapid.SampledFrom([]int{30_000, 100_000, 300_000}).Draw(t, "most")
		var lengths []int
		for left := len(data); left > 0; {
			n := min(left, 1+rng.IntN(most))
			lengths = append(lengths, n)
			left -= n
		}
		// Injections are announced with the piece that holds their place, or
		// before; hints may come late, too.
		var hints, injections []announcement
		offset, after := int64(0), 0
		for i, n := range lengths {
			for at := 0; rng.IntN(3) > 0 && at <= n; at += rng.IntN(n + 1) {
				if rng.IntN(4) > 0 {
					after = max(after, i+rng.IntN(3))
					hints = append(hints, announcement{after, chunker.Injection{At: offset + int64(at)}})
					continue
				}
				in := chunker.Injection{At: offset + int64(at), Size: 1 + rng.Int64N(400_000)}
				injections = append(injections, announcement{rng.IntN(i+1) + 1, in})
				offset += in.Size
			}
			offset += int64(n)
		}
		for i := len(injections) - 2; i >= 0; i-- {
			injections[i].After = min(injections[i].After, injections[i+1].After)
		}
		const avg = chunker.MinAverage
		got := payloadEnds(t, avg, data, lengths, hints, injections)
		if want := slowPayload(table, avg, data, lengths, hints, injections); !slices.Equal(got, want) {
			t.Fatalf("pieces %v\nhints %v\ninjections %v\ngot  %v\nwant %v", lengths, hints, injections, got, want)
		}
	})
}

func TestInjectionsOutOfPlaceAreRefused(t *testing.T) {
	p, err := chunker.NewPayload(chunker.MinAverage)
	if err != nil {
		t.Fatal(err)
	}
	p.Scan(make([]byte, 1000))
	for _, in := range []chunker.Injection{{999, 1}, {1000, 0}, {1000, -1}, {1 << 62, 1 << 62}} {
		if err := p.Inject(in); err == nil {
			t.Errorf("%+v is accepted at %d", in, p.Offset())
		}
	}
	if err := p.Inject(chunker.Injection{At: 2000, Size: 100}); err != nil {
		t.Fatal(err)
	}
	if err := p.Inject(chunker.Injection{At: 2099, Size: 1}); err == nil {
		t.Error("an injection within another is accepted")
	}
	if err := p.Close(); !errors.Is(err, chunker.ErrUnused) {
		t.Errorf("close: %v", err)
	}
}

func TestInjectionAtTheVeryEndNeedsNoBytes(t *testing.T) {
	p, err := chunker.NewPayload(chunker.MinAverage)
	if err != nil {
		t.Fatal(err)
	}
	if n, ev := p.Scan([]byte("0123456789abcdef")); n != 16 || ev != chunker.More {
		t.Fatal(n, ev)
	}
	if err := p.Inject(chunker.Injection{At: 16, Size: 5}); err != nil {
		t.Fatal(err)
	}
	if n, ev := p.Scan(nil); n != 0 || ev != chunker.Inject || p.Offset() != 21 {
		t.Fatal(n, ev, p.Offset())
	}
	if n, ev := p.Scan(nil); n != 0 || ev != chunker.More || p.Close() != nil {
		t.Fatal(n, ev)
	}
}

func TestPiecesStopAtTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	calls := 0
	w := chunker.NewPieces(func([]byte) error { calls++; return broken })
	if _, err := w.Write(bytes.Repeat([]byte{1}, 100)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := w.Write(make([]byte, chunker.PieceSize)); n != 0 || !errors.Is(err, broken) {
			t.Fatal(n, err)
		}
	}
	if err := w.Flush(); !errors.Is(err, broken) || calls != 1 {
		t.Fatalf("%v after %d calls", err, calls)
	}
}

func BenchmarkPayload(b *testing.B) {
	data := sha256Counter("x", 64<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := chunker.NewPayload(chunker.DefaultAverage)
		if err != nil {
			b.Fatal(err)
		}
		at := int64(0)
		for piece := range slices.Chunk(data, chunker.PieceSize) {
			for ; at < p.Offset()+int64(len(piece)); at += 16 << 10 { // files of 16 KiB
				p.Hint(at)
			}
			for more := true; more; {
				n, ev := p.Scan(piece)
				piece, more = piece[n:], ev != chunker.More
			}
		}
	}
}
