package extract_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// endless is a generator of entries: directories with many of them, one with most.
// Only some are made, the others have a name that no file system takes, or lie in
// such a directory.
type endless struct {
	t    testing.TB
	n    int // entries to come
	at   int
	open []string
	e    pxar.Entry
	peak uint64 // bytes of the heap
}

func (g *endless) Path() []string { return g.open }

func (g *endless) Next() (*pxar.Entry, error) {
	g.at++
	if g.at%20_000 == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		g.peak = max(g.peak, m.HeapAlloc)
	}
	switch {
	case g.at == 1:
		g.e = entry("", pxar.Directory, pxar.ModeDirectory|0o755)
	case g.at == g.n:
		g.e = pxar.Entry{Kind: pxar.End}
	case g.at > g.n:
		return nil, io.EOF
	case g.at == g.n/5:
		g.open = append(g.open[:0], strings.Repeat("n", 300))
		g.e = entry(g.open[0], pxar.Directory, pxar.ModeDirectory|0o755)
	case g.at == g.n-1:
		g.e = pxar.Entry{Name: g.open[0], Kind: pxar.End}
	case g.at < g.n/10 && g.at%50 == 0:
		g.open = append(g.open, fmt.Sprintf("d%08d", g.at))
		g.e = entry(g.open[0], pxar.Directory, pxar.ModeDirectory|0o755)
	case g.at < g.n/10 && g.at%50 == 10 && len(g.open) > 0:
		g.e = pxar.Entry{Name: g.open[0], Kind: pxar.End}
		g.open = g.open[:0]
	case g.at%25 == 1:
		g.e = entry(fmt.Sprintf("f%08d", g.at), pxar.File, pxar.ModeFile|0o644)
	default:
		g.e = entry(fmt.Sprintf("n%08d%s", g.at, strings.Repeat("n", 300)), pxar.Symlink, pxar.ModeSymlink|0o777)
		g.e.Target = "x"
	}
	return &g.e, nil
}

func (g *endless) Read([]byte) (int, error) { return 0, io.EOF }

func TestMillionsOfEntriesTakeNoMoreMemoryThanFew(t *testing.T) {
	peak := func(n int) uint64 {
		g := &endless{t: t, n: n}
		target := mounted(t, "tmpfs", "1G")
		res, err := extract.Directory(t.Context(), g, target, extract.Options{})
		if err != nil || res.Made.Files == 0 || res.Failed.Symlinks < int64(n)/2 || res.Asked.Entries() < int64(n)*19/20 {
			t.Fatalf("%v, %+v", err, res)
		}
		return g.peak
	}
	many := 2_000_000
	if testing.Short() {
		many = 400_000
	}
	if few, all := peak(40_000), peak(many); all > few+4<<20 {
		t.Errorf("%d entries take %d bytes of memory, 40000 take %d", many, all, few)
	}
}
