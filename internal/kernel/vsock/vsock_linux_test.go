package vsock_test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/vsock"
)

func TestACallReachesWhoListens(t *testing.T) {
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		t.Skip("needs the loopback's module, which a guest has: test/guest runs this")
	}
	l, err := vsock.Listen(4321)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		f, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(f, f)
		_ = f.Close()
	}()
	f, err := vsock.Dial(ctx, vsock.Local, 4321)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(f, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	if _, err := vsock.Dial(short, vsock.Local, 4322); err == nil {
		t.Error("nobody listens there")
	}
}
