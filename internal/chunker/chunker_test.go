package chunker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/chunker"
)

func whole() int { return 1 << 30 }

// textbook cuts by the rule of the package comment, byte by byte.
func textbook(table []uint32, avg int, data []byte) []int {
	var (
		found []int
		start int
		h     uint32
	)
	for i, b := range data {
		h = bits.RotateLeft32(h, 1) ^ table[b]
		size := i + 1 - start
		if size <= 64 {
			continue
		}
		h ^= table[data[i-64]]
		if size >= 4*avg || size >= avg/4 && h&uint32(2*avg-1) >= uint32(2*avg-3) {
			found = append(found, i+1)
			start, h = i+1, 0
		}
	}
	if start < len(data) {
		found = append(found, len(data))
	}
	return found
}

type goldenCase struct {
	Data string
	Size int
	Avg  int
	Ends []int
}

type goldenFile struct {
	Table  []uint32
	SHA256 string `json:"table-sha256-le"`
	Cases  []goldenCase
}

func golden(t testing.TB) goldenFile {
	t.Helper()
	b, err := os.ReadFile("testdata/chunker.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFile
	if err := json.Unmarshal(b, &g); err != nil || len(g.Table) != 256 || len(g.Cases) < 5 {
		t.Fatalf("%d table entries, %d cases, %v", len(g.Table), len(g.Cases), err)
	}
	le := make([]byte, 0, 1024)
	for _, v := range g.Table {
		le = binary.LittleEndian.AppendUint32(le, v)
	}
	if sum := sha256.Sum256(le); hex.EncodeToString(sum[:]) != g.SHA256 {
		t.Fatalf("the table of the vectors has SHA-256 %x", sum)
	}
	return g
}

func TestGoldenBoundaries(t *testing.T) {
	g := golden(t)
	inputs := map[string][]byte{
		"262144 little-endian u32 counters 0,1,2,...": counters(262144),
		"1 MiB of zero bytes":                         make([]byte, 1<<20),
		"1 MiB: x0=1, x=(x*1664525+1013904223) mod 2^32, byte = x>>24, state advanced before each output": lcg(1 << 20),
		"same generator, 1 MiB": lcg(1 << 20),
		"same generator, first 60 bytes (shorter than the window)": lcg(60),
	}
	for _, tc := range g.Cases {
		data, ok := inputs[tc.Data]
		if !ok || len(data) != tc.Size {
			t.Fatalf("no generator for %q", tc.Data)
		}
		if got := pieces(tc.Avg, data, whole); !slices.Equal(got, tc.Ends) {
			t.Errorf("%s: got %v, want %v", tc.Data, got, tc.Ends)
		}
		if got := textbook(g.Table, tc.Avg, data); !slices.Equal(got, tc.Ends) {
			t.Errorf("%s: the textbook rule gives %v, want %v", tc.Data, got, tc.Ends)
		}
	}
}

// The second set has realistic sizes: 32 MiB of random bytes, the same with one
// byte inserted, zeros.
func TestGoldenBoundariesOfLargeStreams(t *testing.T) {
	b, err := os.ReadFile("testdata/pxar-chunker.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Inputs []struct {
			Name    string
			Size    int    `json:"input_size"`
			SHA256  string `json:"input_sha256"`
			Results []struct {
				Avg  int
				Ends []int
			}
		}
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Inputs) < 4 {
		t.Fatalf("%d inputs, %v", len(file.Inputs), err)
	}
	random := sha256Counter("holdfast-pxar-chunker-v1", 32<<20)
	inputs := map[string][]byte{
		"sha256ctr-32MiB":          random,
		"sha256ctr-32MiB-inserted": slices.Concat(random[:10_000_000], []byte{0x21}, random[10_000_000:]),
		"zeros-20MiB":              make([]byte, 20<<20),
		"u32le-counter-1MiB":       counters(262144),
	}
	for _, tc := range file.Inputs {
		data := inputs[tc.Name]
		if sum := sha256.Sum256(data); len(data) != tc.Size || hex.EncodeToString(sum[:]) != tc.SHA256 {
			t.Fatalf("%s: generated %d bytes with SHA-256 %x", tc.Name, len(data), sum)
		}
		for _, r := range tc.Results {
			if got := pieces(r.Avg, data, whole); !slices.Equal(got, r.Ends) {
				t.Errorf("%s, average %d: got %v, want %v", tc.Name, r.Avg, got, r.Ends)
			}
		}
	}
}

func TestPiecesDoNotMatter(t *testing.T) {
	table := golden(t).Table
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		data := make([]byte, rapid.IntRange(0, 1<<20).Draw(t, "size"))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		// A region that is cut at the largest size only.
		zeros := rapid.IntRange(0, len(data)).Draw(t, "zeros")
		clear(data[:zeros])
		most := rapid.SampledFrom([]int{1, 3, 63, 64, 65, 1000, 16384, 100000, 1 << 20}).Draw(t, "most")
		const avg = chunker.MinAverage
		want := textbook(table, avg, data)
		got := pieces(avg, data, func() int { return 1 + rng.IntN(most) })
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// pieces cuts data that arrives in pieces; piece returns the size of the next.
func pieces(avg int, data []byte, piece func() int) []int {
	c, err := chunker.New(avg)
	if err != nil {
		panic(err)
	}
	var found []int
	for at := 0; at < len(data); {
		p := data[at:min(at+piece(), len(data))]
		if n := c.Scan(p); n > 0 {
			at += n
			found = append(found, at)
		} else {
			at += len(p)
		}
	}
	if len(data) > 0 && (len(found) == 0 || found[len(found)-1] != len(data)) {
		found = append(found, len(data))
	}
	return found
}

func TestResetStartsANewChunk(t *testing.T) {
	data := lcg(1 << 20)
	c, err := chunker.New(chunker.MinAverage)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Scan(data[500_000:520_000]); n != 0 {
		t.Fatalf("cut after %d bytes", n)
	}
	c.Reset()
	if got, want := c.Scan(data), golden(t).Cases[2].Ends[0]; got != want {
		t.Fatalf("first boundary %d, want %d", got, want)
	}
	if c.Max() != 4*chunker.MinAverage {
		t.Errorf("Max = %d", c.Max())
	}
}

func TestNewRefusesOtherSizes(t *testing.T) {
	for _, avg := range []int{-1, 0, 1, 64<<10 - 1, 32 << 10, 65<<10 + 1, 3 << 20, 8 << 20} {
		if _, err := chunker.New(avg); err == nil {
			t.Errorf("average %d is accepted", avg)
		}
	}
	for avg := chunker.MinAverage; avg <= chunker.MaxAverage; avg *= 2 {
		if _, err := chunker.New(avg); err != nil {
			t.Error(err)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(uint64(1), uint16(1000), []byte("x"))
	f.Add(uint64(2), uint16(0), bytes.Repeat([]byte{0}, 100))
	table := golden(f).Table
	f.Fuzz(func(t *testing.T, seed uint64, most uint16, pattern []byte) {
		if len(pattern) == 0 || len(pattern) > 1<<16 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		data := bytes.Repeat(pattern, 300_000/len(pattern)+1)
		data[rng.IntN(len(data))] ^= 1
		got := pieces(chunker.MinAverage, data, func() int { return 1 + rng.IntN(int(most)+1) })
		if want := textbook(table, chunker.MinAverage, data); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// The hash of the chunks stands beside it, as the chunker must never be what a
// backup waits for.
func BenchmarkScan(b *testing.B) {
	for _, data := range []struct {
		kind  string
		bytes []byte
	}{{"random", sha256Counter("x", 64<<20)}, {"zero", make([]byte, 64<<20)}} {
		for _, avg := range []int{chunker.DefaultAverage, chunker.CatalogAverage, chunker.MinAverage} {
			b.Run(fmt.Sprintf("kind=%s/average=%dKiB", data.kind, avg>>10), func(b *testing.B) {
				b.SetBytes(int64(len(data.bytes)))
				b.ReportAllocs()
				for b.Loop() {
					pieces(avg, data.bytes, whole)
				}
			})
		}
		b.Run("kind="+data.kind+"/sha256", func(b *testing.B) {
			b.SetBytes(int64(len(data.bytes)))
			for b.Loop() {
				sha256.Sum256(data.bytes)
			}
		})
	}
}

func counters(n uint32) []byte {
	var b []byte
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, i)
	}
	return b
}

func lcg(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func sha256Counter(seed string, n int) []byte {
	var b []byte
	for i := uint64(0); len(b) < n; i++ {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(seed), i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}
