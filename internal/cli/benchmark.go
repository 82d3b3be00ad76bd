package cli

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/zstd"
	"github.com/spf13/cobra"
)

type benchmarkOptions struct{ span time.Duration }

func newBenchmarkCommand(a *app) *cobra.Command {
	o := benchmarkOptions{}
	cmd := &cobra.Command{
		Use:   "benchmark",
		Short: "Measure the speed of this machine's part in backups",
		Long: `Measures, on one CPU and on chunks of 4 MiB, how fast this machine computes what
backups and restores need: SHA-256 over every chunk that is read, compression of
new ones, decompression and SHA-256 for restore and verify, encryption if there
is a key, CRC. The data is half text and half noise. No repository is touched.

As a rule a first backup runs at the speed of compression times the number of
CPUs, a later one at that of SHA-256, if the disks keep up.`,
		Example: `  holdfast benchmark
  holdfast benchmark --seconds 5 --output-format json`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	seconds := cmd.Flags().Float64("seconds", 1, "time spent on each measurement")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !(*seconds > 0 && *seconds <= 600) {
			return usagef("--seconds must lie between 0 and 600")
		}
		o.span = time.Duration(*seconds * float64(time.Second))
		return runBenchmark(cmd.Context(), a, o)
	}
	return cmd
}

// speed is one measurement. The JSON keys are those of the existing client
// where it has them.
type speed struct {
	key, title string
	once       func() error // works on one chunk
	rate       float64      // plain bytes a second
}

const benchmarkChunk = 4 << 20

func runBenchmark(ctx context.Context, a *app, o benchmarkOptions) error {
	tests, free, err := speeds()
	if err != nil {
		return err
	}
	defer free()
	for i := range tests {
		if tests[i].rate, err = measure(ctx, a.Now, o.span, tests[i].once); err != nil {
			return fmt.Errorf("%s: %w", tests[i].title, err)
		}
	}
	out := map[string]any{"zstd": zstd.Backend}
	t := ui.Table{Columns: []ui.Column{{Title: "WORK"}, {Title: "SPEED", Align: ui.Right}}}
	for _, s := range tests {
		out[s.key] = map[string]float64{"speed": s.rate}
		t.Add(s.title, ui.Size(int64(s.rate)>>20<<20)+"/s")
	}
	return a.print(out, func() error { return a.table(&t) })
}

// measure repeats work on one chunk for a time.
func measure(ctx context.Context, now func() time.Time, span time.Duration, once func() error) (float64, error) {
	if err := once(); err != nil { // warm
		return 0, err
	}
	start := now()
	for n := 1; ; n++ {
		if err := once(); err != nil {
			return 0, err
		}
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		if took := now().Sub(start); took >= span {
			return float64(n) * benchmarkChunk / took.Seconds(), nil
		}
	}
}

func speeds() (tests []speed, free func(), err error) {
	plain := benchmarkData()
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, nil, err
	}
	dec, err := zstd.NewDecoder()
	if err != nil {
		enc.Close()
		return nil, nil, err
	}
	key, err := chunkcrypt.New([chunkcrypt.KeySize]byte{1})
	if err != nil {
		enc.Close()
		dec.Close()
		return nil, nil, err
	}
	packed := make([]byte, zstd.Bound(len(plain)))
	n, ok := enc.Compress(packed, plain)
	if !ok {
		packed = nil
	}
	frame := append([]byte(nil), packed[:n]...)
	back := make([]byte, len(plain))
	sealed := make([]byte, 0, len(plain)+chunkcrypt.TagSize)
	iv := make([]byte, chunkcrypt.IVSize) // of a key that protects nothing
	tests = []speed{
		{key: "sha256", title: "SHA-256", once: func() error { sha256.Sum256(plain); return nil }},
		{key: "compress", title: "compression (zstd)", once: func() error { enc.Compress(packed, plain); return nil }},
		{key: "decompress", title: "decompression (zstd)", once: func() error {
			_, err := dec.Decompress(back, frame)
			return err
		}},
		{key: "aes256_gcm", title: "encryption (AES-256-GCM)", once: func() error { key.Seal(sealed, iv, plain); return nil }},
		{key: "crc32", title: "CRC-32", once: func() error { crc32.ChecksumIEEE(plain); return nil }},
		{key: "verify", title: "decompression and SHA-256", once: func() error {
			n, err := dec.Decompress(back, frame)
			sha256.Sum256(back[:n])
			return err
		}},
	}
	return tests, func() { enc.Close(); dec.Close() }, nil
}

// benchmarkData is half words and half noise, the same every time.
func benchmarkData() []byte {
	r := rand.NewChaCha8([32]byte{})
	words := make([][]byte, 2000)
	for i := range words {
		words[i] = make([]byte, 3+r.Uint64()%9)
		for k := range words[i] {
			words[i][k] = 'a' + byte(r.Uint64()%26)
		}
	}
	b := make([]byte, 0, benchmarkChunk)
	for len(b) < benchmarkChunk/2 {
		b = append(append(b, words[r.Uint64()%uint64(len(words))]...), ' ')
	}
	noise := make([]byte, benchmarkChunk-len(b))
	_, _ = r.Read(noise)
	return append(b, noise...)
}
