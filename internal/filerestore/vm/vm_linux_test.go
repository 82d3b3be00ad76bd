package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/direct"
)

const initprog = "github.com/holdfast-backup/holdfast/internal/filerestore/vm/initprog"

func sparse(t *testing.T, name string, mib int64) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, mib<<20)); err != nil {
		t.Fatal(err)
	}
	return name
}

func tool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		appliancetest.Lack(t, err)
	} else if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

func path(t *testing.T, s string) filerestore.Path {
	t.Helper()
	p, err := filerestore.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listing is a list without what people alone read.
func listing(t *testing.T, d filerestore.Driver, s string) string {
	t.Helper()
	all, err := d.List(t.Context(), path(t, s))
	if err != nil {
		return err.Error()
	}
	filerestore.Sort(all)
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%c %q", e.Type, e.Path.String())
		if e.Size != nil {
			fmt.Fprintf(&b, " %d", *e.Size)
		}
		if e.Mtime != nil {
			fmt.Fprintf(&b, " at %d", *e.Mtime)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func tarOf(t *testing.T, d filerestore.Driver, s string) []byte {
	t.Helper()
	p, err := d.Open(t.Context(), path(t, s), filerestore.OpenOptions{Metadata: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var out bytes.Buffer
	if _, err := extract.Tar(t.Context(), p, &out, extract.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTheMachineReadsWhatItsDisksHave(t *testing.T) {
	disks := makeDisks(t)
	m := newServing(t, disks, Options{})
	c, _, err := Ensure(t.Context(), m.dir, "name", m.start)
	if err != nil {
		t.Fatal(err)
	}
	var plain []direct.Disk
	for _, d := range disks {
		plain = append(plain, direct.Disk{Archive: d.Archive, Image: d.Image})
	}
	d := c.Driver()
	both := drivers{direct: direct.New(plain, direct.Options{}), unlocked: direct.New(plain, direct.Options{Passphrase: []byte(passphrase)}), machine: d}
	t.Run("as the readers in user space do", func(t *testing.T) { both.same(t) })
	t.Run("what those do not read", func(t *testing.T) { both.machineAlone(t) })
	t.Run("what lasts only in a log", func(t *testing.T) { both.logged(t) })
	t.Run("volumes as what they are", func(t *testing.T) { both.named(t) })
	t.Run("encrypted volumes, as soon as their passphrase is given", func(t *testing.T) { both.encrypted(t, c) })
	t.Run("errors keep their kinds", func(t *testing.T) {
		for _, p := range []string{"/disk.img.fidx/part/7", "/disk.img.fidx/part/2", "/disk.img.fidx/part/1/none", "/disk.img.fidx/part/1/etc/link/x", "/disk.img.fidx/part/1/big/x", "/none", "/lvm1.img.fidx/lvm/none"} {
			if _, err := d.List(t.Context(), path(t, p)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", p, err)
			}
		}
		if _, err := d.Open(t.Context(), path(t, "/disk.img.fidx"), filerestore.OpenOptions{}); !errors.Is(err, filerestore.ErrPath) {
			t.Errorf("%v", err)
		}
	})
	t.Run("its QEMU is confined", confined)
	t.Run("its file system is small", func(t *testing.T) {
		config, err := (Appliance{Init: appliancetest.Build(t, initprog)}).Config()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := config.WriteInitrd(io.Discard); err != nil || n > 25e6 {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("a wrong ticket opens nothing", func(t *testing.T) {
		other := c.m
		other.Ticket = "another"
		wrong := newClient("name", other)
		if _, err := wrong.Status(t.Context(), true); err == nil || !strings.Contains(err.Error(), "ticket") {
			t.Errorf("%v", err)
		}
		if _, err := wrong.Driver().List(t.Context(), path(t, "/disk.img.fidx")); err == nil || !strings.Contains(err.Error(), "ticket") {
			t.Errorf("%v", err)
		}
	})
	t.Run("many callers at a time", func(t *testing.T) {
		want := listing(t, d, "/disk.img.fidx/part/1/etc")
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if got := listing(t, c.Driver(), "/disk.img.fidx/part/1/etc"); got != want {
					t.Errorf("%s", got)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a caller who leaves ends what it asked for", func(t *testing.T) {
		p, err := d.Open(t.Context(), path(t, "/disk.img.fidx/part/1"), filerestore.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Next(); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if got := listing(t, d, "/bare.img.fidx"); !strings.Contains(got, "raw") {
			t.Errorf("%s", got)
		}
	})
	t.Run("more trees than it sends at a time are refused", func(t *testing.T) {
		var open []filerestore.Part
		defer func() {
			for _, p := range open {
				_ = p.Close()
			}
		}()
		for range maxTrees { // none is read to its end, so that all wait
			p, err := d.Open(t.Context(), path(t, "/disk.img.fidx/part/1"), filerestore.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, p)
		}
		if _, err := d.Open(t.Context(), path(t, "/disk.img.fidx/part/1"), filerestore.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a caller who is out of time is told so", func(t *testing.T) {
		late := errors.New("out of time")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(late)
		if _, err := d.List(ctx, path(t, "/disk.img.fidx")); !errors.Is(err, late) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a machine that dies is told of and forgotten", func(t *testing.T) {
		p, err := d.Open(t.Context(), path(t, "/disk.img.fidx/part/1"), filerestore.OpenOptions{})
		for err != nil && strings.Contains(err.Error(), "try again later") { // those from above are on their way out
			p, err = d.Open(t.Context(), path(t, "/disk.img.fidx/part/1"), filerestore.OpenOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		signalQEMU(t, syscall.SIGKILL)
		for err == nil {
			if _, err = p.Next(); err == nil {
				_, err = io.Copy(io.Discard, p)
			}
		}
		if errors.Is(err, io.EOF) { // all of it was on its way already
			t.Log("the stream was whole")
		}
		if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "ended by itself") {
			t.Errorf("%v", err)
		}
		if names, err := Names(t.Context(), m.dir); err != nil || len(names) > 0 {
			t.Errorf("%v, %v", names, err)
		}
		if _, err := d.List(t.Context(), path(t, "/disk.img.fidx")); err == nil {
			t.Error("it answers")
		}
	})
}

// signalQEMU sends a signal to the child of this process that is a QEMU.
func signalQEMU(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pidOfQEMU(t), s); err != nil {
		t.Fatal(err)
	}
}

// pidOfQEMU finds that child.
func pidOfQEMU(t *testing.T) int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			line, err := os.ReadFile("/proc/" + f + "/cmdline")
			if err == nil && bytes.Contains(line, []byte("holdfast-appliance")) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no QEMU is a child of this process")
	return 0
}

// confined holds the QEMU of a strange disk to a sandbox, a user without rights and no network.
func confined(t *testing.T) {
	proc := fmt.Sprintf("/proc/%d/", pidOfQEMU(t))
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Seccomp:\t2\n"} // a filter
	if os.Geteuid() == 0 {
		want = append(want, "Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n", "CapEff:\t0000000000000000\n")
	}
	for _, w := range want {
		if !strings.Contains(string(status), w) {
			t.Errorf("QEMU has not %q:\n%s", w, status)
		}
	}
	line, err := os.ReadFile(proc + "cmdline")
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(string(line), "\x00")
	if !slices.Contains(args, "-nodefaults") { // else there is a network card that nobody asked for
		t.Errorf("%q", args)
	}
	for _, a := range args {
		if strings.HasPrefix(a, "-net") || strings.HasPrefix(a, "-nic") || strings.Contains(a, "virtio-net") || strings.Contains(a, "e1000") {
			t.Errorf("a network card: %q", a)
		}
	}
}
