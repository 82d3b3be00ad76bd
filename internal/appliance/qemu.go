package appliance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// ErrNoQEMU is wrapped when there is no QEMU to run the appliance.
var ErrNoQEMU = errors.New("no QEMU for the appliance")

// Descriptors that QEMU inherits.
const (
	fdControl = 3
	fdInitrd  = 4
	fdKernel  = 5
	fdDrives  = 6 // the first of those that have a socket
)

// firstSlot is the first slot of the bus that has drives; devices without an address are below.
const firstSlot = 8

// cmdline keeps the kernel quiet and out of work that a guest of a minute does
// not need. It matters under TCG, where each million instructions is a millisecond.
const cmdline = " quiet panic=-1 rdinit=" + guest.Init +
	" random.trust_cpu=on mitigations=off nowatchdog" +
	" cryptomgr.notests rcupdate.rcu_expedited=1 audit=0 selinux=0 apparmor=0 nokaslr"

func (p platform) findQEMU(name string) (string, error) {
	path, err := exec.LookPath(or(name, p.qemu))
	if err != nil {
		return "", fmt.Errorf("%w: %w: install Debian's package %s", ErrNoQEMU, err, p.pkg)
	}
	return path, nil
}

// arguments builds QEMU's command line.
func (c Config) arguments(accel Accel) ([]string, error) {
	p, err := platformOf(c.Arch)
	if err != nil {
		return nil, err
	}
	line := "console=" + p.console + cmdline + p.options
	if accel == AccelTCG {
		line += p.tcg
	}
	args := []string{
		"-name", "holdfast-appliance", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", p.machine + ",accel=" + string(accel),
		"-cpu", "max", "-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemoryMB) + "M",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", "/dev/fd/" + strconv.Itoa(fdKernel), "-initrd", "/dev/fd/" + strconv.Itoa(fdInitrd),
		"-append", strings.TrimSpace(line + " " + c.Append),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-serial-pci,max_ports=3",
		"-chardev", "socket,id=control,fd=" + strconv.Itoa(fdControl),
		"-device", "virtserialport,chardev=control,name=" + guest.Port,
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
	}
	if c.Monitor != "" {
		args = append(args, "-qmp", "unix:"+c.Monitor+",server=on,wait=off")
	}
	if c.Port.Name != "" {
		args = append(args, "-chardev", "socket,id=port,server=on,wait=off,path="+c.Port.Socket,
			"-device", "virtserialport,chardev=port,name="+c.Port.Name)
	}
	fd := fdDrives
	if c.call != nil {
		args = append(args, "-device", fmt.Sprintf("vhost-vsock-pci,guest-cid=%d,vhostfd=%d", c.call.cid, fd))
		fd++
	}
	for i, d := range c.Drives {
		node := fmt.Sprintf("drive%d", i)
		b, err := d.blockdev(node, fd)
		if err != nil {
			return nil, err
		}
		if d.Dial != nil {
			fd++
		}
		// Eight functions share a slot of the root bus: no further bridge or controller is needed.
		dev, err := json.Marshal(map[string]any{
			"driver": "virtio-blk-pci", "drive": node, "serial": d.Serial,
			"addr": fmt.Sprintf("%x.%x", firstSlot+i/8, i%8), "multifunction": true,
		})
		if err != nil {
			return nil, err
		}
		args = append(args, "-blockdev", string(b), "-device", string(dev))
	}
	return args, nil
}

// blockdev describes the drive as QEMU's JSON, in which no file name needs quoting.
func (d Drive) blockdev(node string, fd int) ([]byte, error) {
	format := or(d.Format, "raw")
	if format != "raw" && format != "qcow2" {
		return nil, fmt.Errorf("appliance: drive %s: format %q is neither raw nor qcow2", d.Path, d.Format)
	}
	file, err := d.protocol(fd)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"driver": format, "node-name": node, "read-only": d.ReadOnly, "discard": "unmap", "file": file,
	})
}

func (d Drive) protocol(fd int) (map[string]any, error) {
	if d.Dial != nil {
		server := map[string]any{"type": "fd", "str": strconv.Itoa(fd)}
		return map[string]any{"driver": "nbd", "server": server, "export": d.Export, "read-only": d.ReadOnly}, nil
	}
	if strings.HasPrefix(d.Path, "nbd:") || strings.HasPrefix(d.Path, "nbd+unix:") {
		u, err := nbd.ParseURI(d.Path)
		if err != nil {
			return nil, fmt.Errorf("appliance: drive: %w", err)
		}
		server := map[string]any{"type": "unix", "path": u.Socket}
		if u.Socket == "" {
			server = map[string]any{"type": "inet", "host": u.Host, "port": strconv.Itoa(int(u.Port))}
		}
		return map[string]any{"driver": "nbd", "server": server, "export": u.Export, "read-only": d.ReadOnly}, nil
	}
	fi, err := os.Stat(d.Path)
	if err != nil {
		return nil, fmt.Errorf("appliance: drive: %w", err)
	}
	driver := "file"
	if fi.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	abs, err := filepath.Abs(d.Path)
	if err != nil {
		return nil, err
	}
	return map[string]any{"driver": driver, "filename": abs, "read-only": d.ReadOnly, "discard": "unmap"}, nil
}

// HaveQEMU is nil if there is a QEMU for a kind of processor; name is its own, or "" for the usual one.
func HaveQEMU(arch, name string) error {
	p, err := platformOf(arch)
	if err == nil {
		_, err = p.findQEMU(name)
	}
	return err
}
