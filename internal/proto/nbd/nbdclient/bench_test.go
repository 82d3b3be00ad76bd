package nbdclient

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// BenchmarkRead reads a whole export as the backup pipeline does: some
// workers, two chunks each. HOLDFAST_NBD_SOCKET names a server that runs;
// otherwise nbdkit serves 1 GiB of zeros that are stored as data.
func BenchmarkRead(b *testing.B) {
	u := nbd.URI{Socket: os.Getenv("HOLDFAST_NBD_SOCKET")}
	if u.Socket == "" {
		u = kit(b, "pattern", "1G")
	}
	for _, request := range []int{128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20} {
		for _, conns := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("request=%dKiB/conns=%d", request>>10, conns), func(b *testing.B) {
				im := open(b, u, Options{RequestSize: request, Connections: conns})
				for deadline := time.Now().Add(time.Second); im.c.alive() < conns && time.Now().Before(deadline); {
				}
				b.SetBytes(im.Size())
				for b.Loop() {
					readAll(b, im, 3, 4<<20)
				}
			})
		}
	}
}

func readAll(tb testing.TB, im *Image, workers int, chunk int64) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for {
				off := next.Add(chunk) - chunk
				if off >= im.Size() {
					return
				}
				n := min(chunk, im.Size()-off)
				if _, err := im.ReadAt(buf[:n], off); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
