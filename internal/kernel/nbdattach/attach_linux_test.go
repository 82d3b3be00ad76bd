package nbdattach

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needDriver skips where the kernel has no NBD client. In the guest that exists
// for these tests it must have one.
func needDriver(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root"
	}
	if _, err := os.Stat("/sys/block/nbd0"); err != nil {
		why = "this kernel has no nbd driver loaded: " + err.Error()
	}
	if why == "" {
		return
	}
	if os.Getenv("HOLDFAST_GUEST") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// serve answers reads from data at one end of a socket pair and returns the
// other.
func serve(t *testing.T, data []byte) (kernel int, died <-chan error) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(p[1]), "server")
	done := make(chan error, 1)
	go func() {
		defer func() { _ = f.Close() }()
		done <- answer(f, data)
	}()
	return p[0], done
}

func answer(rw io.ReadWriter, data []byte) error {
	var q [28]byte
	for {
		if _, err := io.ReadFull(rw, q[:]); err != nil {
			return err
		}
		off, n := binary.BigEndian.Uint64(q[16:]), binary.BigEndian.Uint32(q[24:])
		a := binary.BigEndian.AppendUint32(nil, 0x67446698)
		a = append(a, 0, 0, 0, 0)
		a = append(a, q[8:16]...)
		switch binary.BigEndian.Uint16(q[6:]) {
		case 0:
			a = append(a, data[off:off+uint64(n)]...)
		case 2:
			return nil
		}
		if _, err := rw.Write(a); err != nil {
			return err
		}
	}
}

func TestAttachedDeviceReadsFromTheSocket(t *testing.T) {
	needDriver(t)
	data := bytes.Repeat([]byte("holdfast"), 1<<17) // 1 MiB
	for _, byIoctl := range []bool{false, true} {
		t.Run(map[bool]string{false: "netlink", true: "ioctl"}[byIoctl], func(t *testing.T) {
			kernel, died := serve(t, data)
			d, err := Attach(t.Context(), Options{
				Index: AnyIndex, Size: int64(len(data)), BlockSize: 512, Flags: HasFlags | ReadOnly,
				DeadTimeout: time.Second, Identifier: "holdfast:test", Sockets: []int{kernel}, ioctl: byIoctl,
			})
			_ = unix.Close(kernel)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Read(d.Index())
			if err != nil || s.Size != int64(len(data)) || !s.ReadOnly || s.PID == 0 {
				t.Errorf("%+v, %v", s, err)
			}
			if !byIoctl && s.Identifier != "holdfast:test" {
				t.Errorf("identifier %q", s.Identifier)
			}
			got, err := os.ReadFile(d.Path())
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := os.WriteFile(d.Path(), []byte("x"), 0); err == nil {
				t.Error("a read-only device was written")
			}
			if on, err := Connected(t.Context()); err != nil || !on[d.Index()] {
				t.Errorf("%v, %v", on, err)
			}
			if err := d.Detach(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(d.Index()); !errors.Is(err, ErrFree) {
				t.Errorf("%v", err)
			}
			select {
			case <-died:
			case <-time.After(10 * time.Second):
				t.Error("the server still has a connection")
			}
		})
	}
}

func TestLastCloseDisconnects(t *testing.T) {
	needDriver(t)
	kernel, _ := serve(t, make([]byte, 1<<20))
	d, err := Attach(t.Context(), Options{Index: AnyIndex, Size: 1 << 20, Flags: HasFlags | ReadOnly, Sockets: []int{kernel}})
	_ = unix.Close(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := Read(d.Index()); errors.Is(err, ErrFree) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("still connected")
		}
	}
}

func TestTakenDeviceIsBusy(t *testing.T) {
	needDriver(t)
	kernel, _ := serve(t, make([]byte, 1<<20))
	o := Options{Index: AnyIndex, Size: 1 << 20, Flags: HasFlags | ReadOnly, Sockets: []int{kernel}}
	d, err := Attach(t.Context(), o)
	_ = unix.Close(kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Detach(t.Context()) }()
	for _, byIoctl := range []bool{false, true} {
		second, _ := serve(t, make([]byte, 1<<20))
		o.Index, o.Sockets, o.ioctl = d.Index(), []int{second}, byIoctl
		_, err = Attach(t.Context(), o)
		_ = unix.Close(second)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("ioctl %v: %v", byIoctl, err)
		}
	}
}

func TestMissingDriverIsSaid(t *testing.T) {
	if _, err := os.Stat("/sys/block/nbd0"); err == nil || os.Geteuid() != 0 {
		t.Skip("there is a driver, or no right to ask")
	}
	_, err := Attach(t.Context(), Options{Index: AnyIndex, Size: 512})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "modprobe nbd") {
		t.Errorf("%v", err)
	}
}
