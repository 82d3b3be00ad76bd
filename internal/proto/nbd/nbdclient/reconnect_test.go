package nbdclient

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// dropping hangs up at every n-th request.
func dropping(f *fake, n int64, content []byte) {
	var count atomic.Int64
	f.answer = func(r nbd.Request, p []byte) ([]byte, error) {
		if count.Add(1)%n == 0 {
			return nil, errHangUp
		}
		return f.honest(content)(r, p)
	}
}

func TestReadsGoOnAfterADroppedConnection(t *testing.T) {
	content := pattern(0, 1<<20)
	for _, mode := range []nbd.Mode{nbd.Simple, nbd.Structured, nbd.Extended} {
		for _, flags := range []nbd.ExportFlags{0, nbd.CanMultiConn} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{mode: mode, size: 1 << 20, flags: flags}
				dropping(f, 7, content)
				im, err := Open(t.Context(), fakeURI, Options{Dial: f.dial, RequestSize: 32 << 10})
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 1<<20)
				if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s: %v, equal %v", mode, err, bytes.Equal(got, content))
				}
				if f.dialed() < 2 {
					t.Errorf("%d connections", f.dialed())
				}
				_ = im.Close()
			})
		}
	}
}

func TestServerThatStaysAwayIsAnErrorWhenPatienceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{mode: nbd.Structured, size: 1 << 20}
		f.answer = func(nbd.Request, []byte) ([]byte, error) { return nil, errHangUp }
		var away atomic.Bool
		dial := func(ctx context.Context, n, a string) (net.Conn, error) {
			if away.Load() {
				return nil, errors.New("connection refused")
			}
			return f.dial(ctx, n, a)
		}
		im, err := Open(t.Context(), fakeURI, Options{Dial: dial})
		if err != nil {
			t.Fatal(err)
		}
		away.Store(true)
		start := time.Now()
		_, err = im.ReadAt(make([]byte, 512), 0)
		d := time.Since(start)
		if err == nil || !strings.Contains(err.Error(), "connection refused") || d > defaultPatience || d < defaultPatience-2*lastPause {
			t.Errorf("%v after %s", err, d)
		}
		_ = im.Close()
	})
}

func TestExportThatChangedIsRefused(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"size":     func(f *fake) { f.size += 512 },
		"flags":    func(f *fake) { f.flags |= nbd.ReadOnly },
		"contexts": func(f *fake) { f.contexts = nil },
		"blocks":   func(f *fake) { f.sizes = nbd.BlockSizes{Minimum: 512, Preferred: 4096, Maximum: 1 << 20} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{mode: nbd.Structured, size: 1 << 20, contexts: []string{nbd.BaseAllocation}}
				f.answer = func(nbd.Request, []byte) ([]byte, error) {
					change(f)
					return nil, errHangUp
				}
				im, err := Open(t.Context(), fakeURI, Options{Dial: f.dial})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := im.ReadAt(make([]byte, 512), 0); !errors.Is(err, ErrChanged) {
					t.Errorf("err = %v", err)
				}
				_ = im.Close()
			})
		})
	}
}

func TestWritesAreNotRepeated(t *testing.T) {
	f := &fake{mode: nbd.Structured, size: 1 << 20}
	f.answer = func(nbd.Request, []byte) ([]byte, error) { return nil, errHangUp }
	to, err := OpenTarget(t.Context(), fakeURI, Options{Dial: f.dial})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.WriteAt(make([]byte, 512), 0); err == nil || f.dialed() != 1 {
		t.Errorf("%v, %d connections", err, f.dialed())
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
}

func TestCancellationEndsEverythingAtOnce(t *testing.T) {
	why := errors.New("enough")
	for _, flags := range []nbd.ExportFlags{0, nbd.CanMultiConn} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{mode: nbd.Structured, size: 1 << 20, flags: flags}
			f.answer = func(nbd.Request, []byte) ([]byte, error) { return nil, nil } // and nothing ever
			ctx, cancel := context.WithCancelCause(t.Context())
			im, err := Open(ctx, fakeURI, Options{Dial: f.dial})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			time.AfterFunc(time.Second, func() { cancel(why) })
			if _, err := im.ReadAt(make([]byte, 1<<20), 0); !errors.Is(err, why) || time.Since(start) != time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			if _, err := im.ReadAt(make([]byte, 1), 0); !errors.Is(err, why) {
				t.Errorf("the next one: %v", err)
			}
			_ = im.Close()
		})
	}
}

func TestStatusEndsWithItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{mode: nbd.Structured, size: 1 << 20, contexts: []string{nbd.BaseAllocation}}
		content := make([]byte, 1<<20)
		f.answer = func(r nbd.Request, p []byte) ([]byte, error) {
			if r.Type == nbd.CmdBlockStatus {
				return nil, nil
			}
			return f.honest(content)(r, p)
		}
		im, err := Open(t.Context(), fakeURI, Options{Dial: f.dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = im.Status(ctx, nbd.BaseAllocation, 0, 1<<20, func(int64, int64, uint64) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if _, err := im.ReadAt(make([]byte, 512), 0); err != nil || f.dialed() != 1 {
			t.Errorf("a read on the same connection: %v", err)
		}
		_ = im.Close()
	})
}

func TestServerWithoutGOIsOpenedByName(t *testing.T) {
	content := pattern(0, 1<<20)
	f := &fake{mode: nbd.Structured, size: 1 << 20, noGo: true}
	f.answer = f.honest(content)
	got := make([]byte, 1000)
	if _, err := open(t, fakeURI, Options{Dial: f.dial}).ReadAt(got, 77); err != nil || !bytes.Equal(got, content[77:1077]) {
		t.Fatalf("%v", err)
	}
}
