package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// holdfastRun runs a command on a repository and returns its exit code and output.
func holdfastRun(t *testing.T, repository string, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	e := System("test")
	e.Stdin, e.Stdout, e.Stderr, e.Asker = strings.NewReader(""), &b, &b, nil
	e.LookupEnv = func(name string) (string, bool) {
		return repository, name == "HOLDFAST_REPOSITORY"
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return Main(ctx, e, args), b.String()
}

// serveNBD runs an NBD server whose arguments hold SOCKET.
func serveNBD(t *testing.T, name string, args ...string) (socket string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("%s is not here", name)
	}
	dir, err := os.MkdirTemp("", "nbd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "SOCKET", socket)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if nc, err := net.Dial("unix", socket); err == nil {
			_ = nc.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s made no socket", name)
		}
	}
}

func TestExportsAreBackedUpAndRestoredTo(t *testing.T) {
	dir := t.TempDir()
	repository, raw := filepath.Join(dir, "repo"), filepath.Join(dir, "raw")
	want := make([]byte, 13<<20+512)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(want[:5<<20])
	copy(want[9<<20:], "in the middle")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	ok := func(args ...string) string {
		t.Helper()
		code, out := holdfastRun(t, repository, args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, out)
		}
		return out
	}
	ok("init", "--lazy", repository)
	from := serveNBD(t, "qemu-nbd", "-t", "-r", "--shared=8", "-f", "raw", "-x", "disk:1", "-k", "SOCKET", raw)
	ok("backup", "disk.img:nbd+unix:///disk:1?socket="+from, "file.img:"+raw, "--backup-type", "vm", "--backup-id", "1")
	if out := ok("snapshot", "files", "vm/1", "--output-format", "json"); strings.Count(out, digestOfField(t, out)) < 2 {
		t.Errorf("the export and its file differ in the index: %s", out)
	}

	to := "nbd+unix:///?socket=" + serveNBD(t, "nbdkit", "-f", "-U", "SOCKET", "memory", "16M")
	if out := ok("restore", "vm/1", "disk.img", to, "--in-place"); !strings.Contains(out, "left alone") {
		t.Errorf("nothing about the rest of the export: %s", out)
	}
	if out := ok("restore", "vm/1", "disk.img", to, "--in-place", "--output-format", "json"); !strings.Contains(out, `"written":0,`) {
		t.Errorf("restored again, it is written again: %s", out)
	}
	ok("backup", "disk.img:"+to, "--backup-type", "vm", "--backup-id", "2")
	got := filepath.Join(dir, "got")
	ok("restore", "vm/2", "disk.img", got)
	b, err := os.ReadFile(got)
	if err != nil || !bytes.Equal(b[:len(want)], want) || len(b) != 16<<20 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}

	small := "nbd+unix:///?socket=" + serveNBD(t, "nbdkit", "-f", "-U", "SOCKET", "memory", "1M")
	if code, out := holdfastRun(t, repository, "restore", "vm/1", "disk.img", small, "--in-place"); code != exitFailed ||
		!strings.Contains(out, "at least as large") || strings.Contains(out, "mixture") {
		t.Errorf("onto a small export: %d, %s", code, out)
	}
	bad := "nbd+unix:///?socket=" + serveNBD(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=error", "memory", "16M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
	if code, out := holdfastRun(t, repository, "restore", "vm/1", "disk.img", bad, "--in-place"); code != exitFailed ||
		!strings.Contains(out, "holds a mixture now") || !strings.Contains(out, "ENOSPC") {
		t.Errorf("onto a full export: %d, %s", code, out)
	}
}

// digestOfField is the first checksum in the list of files.
func digestOfField(t *testing.T, out string) string {
	t.Helper()
	_, after, ok := strings.Cut(out, `"csum":"`)
	if !ok || len(after) < 64 {
		t.Fatalf("no checksum in %s", out)
	}
	return after[:64]
}

func TestUnreadableSectorsOfAnExportAreListed(t *testing.T) {
	dir := t.TempDir()
	repository := filepath.Join(dir, "repo")
	if code, out := holdfastRun(t, repository, "init", "--lazy", repository); code != 0 {
		t.Fatal(out)
	}
	socket := serveNBD(t, "nbdkit", "-f", "-U", "SOCKET", "eval", "get_size=echo 8M", "thread_model=echo parallel",
		`pread=if [ $4 -le 70000 ] && [ $(($4+$3)) -gt 70000 ]; then echo EIO bad sector >&2; exit 1; fi; head -c $3 /dev/zero`)
	spec := "disk.img:nbd+unix:///?socket=" + socket
	if code, out := holdfastRun(t, repository, "backup", spec); code != exitFailed || !strings.Contains(out, "EIO") {
		t.Errorf("%d, %s", code, out)
	}
	if code, out := holdfastRun(t, repository, "backup", spec, "--skip-errors"); code != exitSkipped || !strings.Contains(out, "69632") {
		t.Errorf("%d, %s", code, out)
	}
}

func TestAddressesOfExportsAreToldFromPaths(t *testing.T) {
	for s, want := range map[string]string{
		"disk.img:nbd://host:10809/a:b":                   "nbd://host/a:b",
		"disk.img:nbds://host/a":                          "nbds://host/a",
		"disk.img:nbd+unix:///a?socket=/run/x:y.sock":     "nbd+unix:///a?socket=/run/x%3Ay.sock",
		"disk.img:nbd:unix:/run/x.sock:exportname=vda":    "nbd+unix:///vda?socket=/run/x.sock",
		"disk.img:nbd:host:10810:exportname=vda":          "nbd://host:10810/vda",
		"disk.img:./nbd:x":                                "",
		"disk.img:/srv/nbd://x":                           "",
		"disk.img:nbd":                                    "",
		"disk.img:-":                                      "",
		"disk.img:nbd+vsock://1/x":                        "refused",
		"disk.img:nbd://host/x?tls-verfy-peer=1":          "refused",
		"vm.conf:nbd://host/x":                            "refused",
		"disk.img:nbd+unix:///x":                          "refused",
		"disk.img:nbd://user:password@host.example/x":     "refused",
		"disk.img:nbd://[::1]:10809/":                     "nbd://[::1]/",
		"disk.img:nbds+unix:///x?socket=/s&tls-type=x509": "nbds+unix:///x?socket=/s&tls-type=x509",
	} {
		b, err := parseSpec(s)
		got := ""
		switch {
		case errors.As(err, new(usageError)):
			got = "refused"
		case err != nil:
			got = fmt.Sprint(err)
		case b.export != nil:
			got = b.export.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q (%v)", s, got, want, err)
		}
	}
	for _, args := range [][]string{
		{"restore", "vm/1", "disk.img", "nbd://host/x"},
		{"restore", "vm/1", "disk.img", "nbd://host/x", "--overwrite"},
		{"restore", "vm/1", "disk.img", "nbd://host:x/", "--in-place"},
		{"backup", "disk.img:nbd://host/x", "--source-format", "qcow2"},
	} {
		if code, out := holdfastRun(t, filepath.Join(t.TempDir(), "none"), args...); code != exitUsage {
			t.Errorf("%q: exit code %d: %s", args, code, out)
		}
	}
}
