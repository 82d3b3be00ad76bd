package appliance

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
)

// platform is what differs between kinds of processors.
type platform struct {
	arch    string // as Go and Debian call it
	qemu    string // its program
	pkg     string // Debian's package with it
	machine string
	console string // the kernel's name of the first serial port
	options string // of the kernel
	tcg     string // and those under TCG
	magic   []byte // in an image of a kernel
	at      int64
}

var platforms = []platform{
	{
		arch: "amd64", qemu: "qemu-system-x86_64", pkg: "qemu-system-x86",
		machine: "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off,hpet=off", console: "ttyS0",
		options: " no_timer_check 8250.nr_uarts=1",
		// The guest measures the speed of its cycle counter wrongly on a busy host, by a factor of 30
		// once, and then timeouts in it mean nothing. The ACPI timer's speed is given.
		tcg:   " tsc=unstable clocksource=acpi_pm",
		magic: []byte("HdrS"), at: 0x202,
	},
	{
		arch: "arm64", qemu: "qemu-system-aarch64", pkg: "qemu-system-arm",
		machine: "virt", console: "ttyAMA0", magic: []byte("ARM\x64"), at: 0x38,
	},
}

// platformOf finds a platform; "" is the one of this program.
func platformOf(arch string) (platform, error) {
	arch = or(arch, runtime.GOARCH)
	for _, p := range platforms {
		if p.arch == arch {
			return p, nil
		}
	}
	return platform{}, fmt.Errorf("appliance: no machine for processors of kind %q: amd64 and arm64 are known", arch)
}

// starts reports whether a file is a kernel for the platform. One whose image has the form of
// no platform is left to QEMU to judge.
func (p platform) starts(image *os.File) error {
	for _, o := range platforms {
		b := make([]byte, len(o.magic))
		if _, err := image.ReadAt(b, o.at); err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(b, o.magic) && o.arch != p.arch {
			return fmt.Errorf("it is a kernel for %s, not for %s", o.arch, p.arch)
		}
	}
	return nil
}
