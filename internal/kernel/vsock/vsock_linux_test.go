package vsock_test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/vsock"
)

// Where the loopback is, as in the guest that test/guest starts for it.
func TestACallReachesWhoListens(t *testing.T) {
	l, err := vsock.Listen(4321)
	if err != nil {
		if os.Getenv("HOLDFAST_GUEST") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer l.Close()
	wait := 20 * time.Second
	if os.Getenv("HOLDFAST_GUEST") == "" {
		wait = 200 * time.Millisecond // it is there, or it is not
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
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
		if os.Getenv("HOLDFAST_GUEST") == "" {
			t.Skip(err)
		}
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
