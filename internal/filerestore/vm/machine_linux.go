package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/appliance/initramfs"
	"github.com/holdfast-backup/holdfast/internal/appliance/kmod"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/inside"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// Disk is an image of the snapshot under the name of its archive.
type Disk struct {
	Archive string
	Image   image.Image
}

// Options say how a machine is made. The zero value of all but Init is useful.
type Options struct {
	Appliance
	Dir   string        // the run directory; "": RunDir
	Idle  time.Duration // the machine ends when unused for so long; 0: 10 minutes
	Ready func() error  // called as soon as clients can find the machine, and wait for its start
	Log   *slog.Logger  // nil: nothing

	paced pace // the zero pace: usual
}

// Appliance says what the machine is made of.
type Appliance struct {
	Arch     string // amd64 or arm64; "": as this program
	Init     string // program that is guest.Main, and inside.Main with inside.Command
	InitData []byte // the program itself, instead
	Kernel   appliance.KernelSearch
	QEMU     string // "": found
	MemoryMB int    // 0: by the number of disks
	Accel    appliance.Accel
}

// pace is how supervisor and guest look after each other: the guest is pinged, given up
// when it does not answer for alive, and ends by itself when nobody asks for watchdog.
type pace struct{ ping, alive, watchdog time.Duration }

func (o Options) pace() pace {
	if o.paced == (pace{}) {
		return pace{ping: 10 * time.Second, alive: time.Minute, watchdog: 3 * time.Minute}
	}
	return o.paced
}

const maxStderr = 4 << 10

// tools are the host's programs that a machine has, where they are installed.
var tools = []string{"lvm"}

// Config is the machine without disks.
func (a Appliance) Config() (appliance.Config, error) {
	k, err := appliance.FindKernel(a.Kernel)
	if err != nil {
		return appliance.Config{}, err
	}
	c := appliance.Config{
		Arch: a.Arch, Kernel: k, Init: a.Init, InitData: a.InitData, QEMU: a.QEMU, Accel: a.Accel, MemoryMB: a.MemoryMB, Compress: true, Vsock: true,
		Files: []appliance.File{{Name: "/etc/lvm/lvm.conf", Content: []byte(inside.LVMConfig)}},
	}
	tree, err := kmod.Open(k.Modules)
	if err != nil {
		return c, err
	}
	seen := map[string]bool{}
	for _, m := range inside.Modules() {
		if !seen[m] && tree.Has(m) {
			seen[m] = true
			c.Later = append(c.Later, m)
		}
	}
	if a.Arch != "" && a.Arch != runtime.GOARCH {
		return c, nil // the host's programs are of no use to it
	}
	for _, t := range tools {
		if _, err := initramfs.FindTool(t); err == nil {
			c.Tools = append(c.Tools, t)
		}
	}
	return c, nil
}

// guestVM is a machine that runs, with the disks that it reads.
type guestVM struct {
	*appliance.VM
	boot     time.Duration
	memoryMB int
	close    []func() error
}

// start boots a machine with disks.
func start(ctx context.Context, disks []Disk, o Options) (_ *guestVM, err error) {
	c, err := o.Config()
	if err != nil {
		return nil, err
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = memoryFor(len(disks))
	}
	if err := roomFor(c.MemoryMB); err != nil {
		return nil, err
	}
	c.User, c.Watchdog = nobody(), o.pace().watchdog
	g := &guestVM{memoryMB: c.MemoryMB}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.end())
		}
	}()
	archives := map[string]string{}
	var exports []*nbdserver.Export
	for i, d := range disks {
		o := newOverlay(d.Image)
		g.close = append(g.close, o.Close)
		serial := fmt.Sprintf("hf%03d", i)
		archives[serial] = d.Archive
		exports = append(exports, &nbdserver.Export{Name: serial, Image: o, Align: 512})
	}
	// Twice: a machine that does not start with KVM is started once more.
	server := nbdserver.New(nbdserver.Options{Exports: exports, Log: o.Log, MaxConnections: 2 * len(exports)})
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var conns sync.WaitGroup
	g.close = append(g.close, func() error {
		stop()
		err := server.Shutdown(serving)
		conns.Wait()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	})
	for _, x := range exports {
		c.Drives = append(c.Drives, appliance.Drive{Serial: x.Name, Export: x.Name, Dial: func() (*os.File, error) {
			ours, theirs, err := pair()
			if err != nil {
				return nil, err
			}
			conns.Go(func() { _ = server.ServeConn(serving, ours) })
			return theirs, nil
		}})
	}
	names, err := json.Marshal(archives)
	if err != nil {
		return nil, err
	}
	c.Files = append(c.Files, appliance.File{Name: inside.DisksFile, Content: names})
	began := time.Now()
	if g.VM, err = appliance.Start(ctx, c); err != nil {
		return nil, err
	}
	g.boot = time.Since(began)
	return g, nil
}

// end pulls the plug: nothing in the guest is to last.
func (g *guestVM) end() (err error) {
	if g == nil {
		return nil
	}
	if g.VM != nil {
		err = g.VM.Close()
	}
	for i := len(g.close) - 1; i >= 0; i-- {
		err = errors.Join(err, g.close[i]())
	}
	return err
}

// nobody is who QEMU runs as where root started it: with the group that may use KVM.
func nobody() *appliance.User {
	if os.Geteuid() != 0 {
		return nil
	}
	u := &appliance.User{UID: 65534, GID: 65534}
	var st syscall.Stat_t
	if syscall.Stat("/dev/kvm", &st) == nil && st.Gid != 0 {
		u.Groups = []uint32{st.Gid}
	}
	return u
}

func pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("restore machine: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "nbd"), os.NewFile(uintptr(fds[1]), "nbd")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("restore machine: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// ask has the guest answer a call. An error means that the answer may not be all.
func (g *guestVM) ask(ctx context.Context, op string, call []byte, w io.Writer) error {
	var stderr tail
	r, err := g.Run(ctx, appliance.Cmd{
		Args: []string{guest.Init, inside.Command, op}, Stdin: bytes.NewReader(call), Stdout: w, Stderr: &stderr,
	})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		if text := stderr.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		if r.Signal != "" && strings.Contains(g.Console(), "Out of memory: Killed process") {
			err = fmt.Errorf("its memory of %d MiB was not enough: %w", g.memoryMB, err)
		}
		return fmt.Errorf("the restore machine gave no whole answer: %w", err)
	}
	return nil
}

// tail keeps the last bytes that are written.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-maxStderr):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }
