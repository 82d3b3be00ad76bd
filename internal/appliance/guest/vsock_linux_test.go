package guest

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
	"github.com/holdfast-backup/holdfast/internal/kernel/vsock"
)

// The host's part is played by the same system, where vsock_loopback is loaded.
func TestTheAgentIsThereForWhoKnowsTheToken(t *testing.T) {
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		t.Skip("the files of an agent are a guest's: test/guest runs this")
	}
	const token = "a token that is hard to guess"
	if err := os.WriteFile(VsockFile, []byte(token), 0o400); err != nil {
		t.Fatal(err)
	}
	go listen(wire.Hello{Version: wire.Version, Kernel: "here"}, func(st *wire.Stream) { _ = st.End(wire.Result{Code: 7}) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := func(says string) *os.File {
		t.Helper()
		f, err := vsock.Dial(ctx, vsock.Local, VsockPort)
		if err == nil {
			_, err = io.WriteString(f, says)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	wrong := dial("a token that is easy to guess")
	if n, err := wrong.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes for who does not know the token", n)
	}
	_ = wrong.Close()
	s := wire.Dial(dial(token))
	if h, err := s.Hello(ctx); err != nil || h.Kernel != "here" {
		t.Fatalf("%+v, %v", h, err)
	}
	st, err := s.Open(wire.Request{Op: wire.OpPing})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := st.Result(ctx); err != nil || r.Code != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
