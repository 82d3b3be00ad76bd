package provider_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"golang.org/x/sys/unix"
)

// walkers is a service with a place where walkers report.
func walkers(t *testing.T, store provider.Storage) (s *provider.Service, intro *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	intro = os.NewFile(uintptr(pair[1]), "intro")
	w, err := provider.NewWalkers(os.NewFile(uintptr(pair[0]), "walkers"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s = provider.New(store, provider.Options{Walkers: w})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		_ = intro.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, intro
}

var ct = provider.Guest{Kind: provider.LXC, ID: 9}

func prepare(t *testing.T, s *provider.Service) {
	t.Helper()
	if _, err := s.BackupInit(ct, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.BackupContainerPrepare(9, "", provider.ContainerInfo{Directory: "/"}); err != nil {
		t.Fatal(err)
	}
}

func frame(kind byte, payload string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

// walker is one that says what a test wants.
func walker(t *testing.T, intro *os.File, say ...[]byte) string {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(int(intro.Fd()), []byte{0}, unix.UnixRights(pair[1]), nil, 0); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "walker")
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	defer func() { _ = c.Close() }()
	for _, b := range say {
		if _, err := c.Write(b); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
	}
	_ = c.(*net.UnixConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return string(answer)
}

const call = `{"vmid":9,"guest-config":"x","info":{"directory":"/"}}`

func TestWalkerThatMisbehavesStoresNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		say  [][]byte
		want string
	}{
		{"says nothing", nil, "has ended"},
		{"begins in the middle", [][]byte{frame('M', "data")}, "before the call"},
		{"call is no JSON", [][]byte{frame('A', "{")}, "do not understand"},
		{"guest that nobody announced", [][]byte{frame('A', `{"vmid":8,"guest-config":"x"}`)}, "backup_init for 8 is missing"},
		{"ends before the end", [][]byte{frame('A', call), frame('M', "data")}, "has ended"},
		{"half a frame", [][]byte{frame('A', call), frame('M', "data")[:7]}, "unexpected EOF"},
		{"frame beyond all bounds", [][]byte{frame('A', call), {'M', 255, 255, 255, 255}}, "a frame of 4294967295 bytes"},
		{"contents in an archive of one part", [][]byte{frame('A', call), frame('P', "data")}, "archive of one part"},
		{"chunks of nowhere", [][]byte{frame('A', call), frame('R', "01234567abcd")}, "archive of one part"},
		{"unknown frame", [][]byte{frame('A', call), frame('?', "")}, "frame '?'"},
		{"report is no JSON", [][]byte{frame('A', call), frame('E', "[")}, "do not understand"},
		{"says that it failed", [][]byte{frame('A', call), frame('M', "data"), frame('F', "disk on fire")}, "disk on fire"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := newFake()
			s, intro := walkers(t, store)
			prepare(t, s)
			if got := walker(t, intro, tc.say...); !strings.Contains(got, tc.want) {
				t.Errorf("answer %q, want %q in it", got, tc.want)
			}
			if len(store.disks) > 0 {
				t.Error("something is stored")
			}
		})
	}
}

func TestWalkerThatIsNotExpectedIsRefused(t *testing.T) {
	s, intro := walkers(t, newFake())
	if _, err := s.BackupInit(ct, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := walker(t, intro, frame('A', call)); !strings.Contains(got, "backup_container_prepare for 9 is missing") {
		t.Errorf("answer %q", got)
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	store := newFake()
	s, intro := walkers(t, store)
	prepare(t, s)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := provider.ParseContainerCall([]byte(`{"vmid":9,"guest-config":"x","info":{"directory":"` + dir + `","sources":["./"],"bandwidth-limit":1000}}`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(provider.ErrAborted) })
	if err := provider.RunWalker(ctx, intro, c, func(provider.Level, string) {}); !errors.Is(err, provider.ErrAborted) {
		t.Fatalf("err = %v", err)
	}
	if _, err := s.BackupCleanup(t.Context(), nil, ct, "", false, ""); err != nil || len(store.disks) > 0 {
		t.Errorf("%v, %d stored", err, len(store.disks))
	}
}

func TestSourceOutsideOfTheContainerIsRefused(t *testing.T) {
	_, intro := walkers(t, newFake())
	for _, source := range []string{"../x", "/etc", "./a/../../b"} {
		c := provider.ContainerCall{}
		c.Info.Sources = []string{source}
		if err := provider.RunWalker(t.Context(), intro, c, nil); !errors.Is(err, provider.ErrUsage) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
