package appliance

import (
	"fmt"
	"os"
	"time"
)

// Accel says how the guest's instructions are run.
type Accel string

// The ways to run a guest.
const (
	AccelAuto Accel = ""    // KVM when it works here, else TCG
	AccelKVM  Accel = "kvm" // the processor itself
	AccelTCG  Accel = "tcg" // QEMU's emulation, everywhere
)

// MaxDrives is how many drives a machine can have: eight in each of 16 slots.
const MaxDrives = 128

// Config describes a machine.
type Config struct {
	Arch   string // amd64 or arm64, of Kernel and Init; "": as this program
	Kernel Kernel
	Init   string // static program whose main is guest.Main

	// InitData is such a program itself, instead of a file.
	InitData []byte

	Modules []string // loaded at boot, with what they need, besides those of the machine's own devices
	Later   []string // in the guest, loaded by VM.Load, or guest.Load there
	Tools   []string // programs of the host, by name or path, with their libraries
	Files   []File

	Drives   []Drive
	MemoryMB int // 0: 256
	CPUs     int // 0: 1

	Accel    Accel
	KVMWait  time.Duration // 0: 5 s
	BootWait time.Duration // from QEMU's start to the agent's first word; 0: 90 s
	QEMU     string        // "": qemu-system-x86_64 or qemu-system-aarch64 on the path
	Append   string        // added to the kernel's command line

	// User is who QEMU runs as; nil: as this process. Only root can choose.
	User *User
	// Compress makes the guest's file system smaller, by gzip: every kernel knows it, as
	// one stream, which the frames of a fast zstd encoder are not. Unpacking takes the
	// guest a little longer.
	Compress bool
	// Vsock has the guest called through vsock where this host has it, instead of through
	// the port, which stays as what there is else.
	Vsock bool

	// Watchdog lets the guest turn its power off when the host has not asked it
	// for anything, [VM.Ping] included, for so long; 0: it has none.
	Watchdog time.Duration

	// Monitor is a unix socket of the host on which QEMU's monitor listens, and
	// Port another one for a virtio-serial port with this name in the guest:
	// for tests of what talks to virtual machines.
	Monitor string
	Port    Port

	call *call // nil: not
}

// call is how a machine is called through vsock.
type call struct {
	cid   uint32
	token string // that it wants to hear
}

// Port is a virtio-serial port; the zero Port is none.
type Port struct {
	Name   string // in the guest
	Socket string // of the host, for one client
}

// File is something to put into the guest before it starts.
type File struct {
	Name    string // absolute, in the guest
	From    string // file of the host; "": Content
	Content []byte
	Mode    uint32 // for Content; 0: 0644
}

// User is a user of the host with groups.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Drive is a disk of the guest.
type Drive struct {
	Path string // file, block device, or an NBD address such as nbd+unix:///name?socket=PATH
	// Dial, instead of Path, makes a socket at whose other end an NBD server waits
	// for a client; Export is the name of the disk there. QEMU inherits it. Each start of
	// QEMU asks for one.
	Dial     func() (*os.File, error)
	Export   string
	Format   string // "raw" (also when empty) or "qcow2"
	ReadOnly bool
	Serial   string // at most 20 characters; "": hf000 for the first
}

func (c Config) withDefaults() (Config, error) {
	if c.MemoryMB == 0 {
		c.MemoryMB = 256
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.KVMWait == 0 {
		c.KVMWait = 5 * time.Second
	}
	if c.BootWait == 0 {
		c.BootWait = 90 * time.Second
	}
	switch {
	case c.Kernel.Image == "" || c.Init == "" && c.InitData == nil:
		return c, fmt.Errorf("appliance: a kernel and a program for %s are needed", "/init")
	case len(c.Drives) > MaxDrives:
		return c, fmt.Errorf("appliance: %d drives, at most %d", len(c.Drives), MaxDrives)
	}
	c.Drives = append([]Drive(nil), c.Drives...)
	for i := range c.Drives {
		d := &c.Drives[i]
		if d.Serial == "" {
			d.Serial = fmt.Sprintf("hf%03d", i)
		}
		if len(d.Serial) > 20 { // VIRTIO_BLK_ID_BYTES
			return c, fmt.Errorf("appliance: serial %q has more than 20 characters", d.Serial)
		}
	}
	return c, nil
}
