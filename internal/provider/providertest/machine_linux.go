// Package providertest is the platform's side for tests of package provider: a
// real QEMU whose disks are made to stand still as Proxmox VE does it.
//
// Its QEMU has one command for that, the QEMU of distributions has the parts: a
// copy-before-write filter between device and disk, with a scratch disk; what the
// filter shows of the past as a node, exported by NBD and writable, so that it can
// be trimmed; one dirty bitmap for each disk with a granularity of 4 MiB. While
// the point stands, the bitmap is stopped and a second one runs. After success it
// is what the second one saw, after failure that is added to it.
package providertest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
	"github.com/holdfast-backup/holdfast/internal/provider"
)

// Granularity is that of the platform's bitmaps, in bytes.
const Granularity = 4 << 20

// The bitmaps of a disk: that which counts, and that which runs meanwhile.
const (
	bitmapName     = "snapshot-access:store"
	backgroundName = "background"
)

// Machine is a running machine.
type Machine struct {
	VM *qemutest.VM

	dir   string
	sizes map[string]int64
	has   map[string]bool          // disks with a bitmap
	modes map[string]provider.Mode // while a point stands
	point int
}

// Start starts a machine with these disks, called "scsi0" and so on.
func Start(t testing.TB, sizes map[string]int64) *Machine {
	t.Helper()
	m := &Machine{dir: t.TempDir(), sizes: sizes, has: map[string]bool{}}
	m.boot(t)
	return m
}

func (m *Machine) boot(t testing.TB) {
	t.Helper()
	spec := qemutest.Spec{Paused: true}
	for _, d := range slices.Sorted(maps.Keys(m.sizes)) {
		spec.Disks = append(spec.Disks, qemutest.Disk{ID: d, Path: m.path(d), Format: "raw", Size: m.sizes[d]})
	}
	m.VM = qemutest.Start(t, spec)
	if err := os.WriteFile(m.PIDFile(0), []byte(strconv.Itoa(m.VM.PID)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Restart ends the machine and starts it anew, without bitmaps.
func (m *Machine) Restart(t testing.TB) {
	t.Helper()
	m.VM.Quit(t)
	clear(m.has)
	m.modes = nil
	m.boot(t)
}

func (m *Machine) path(disk string) string { return filepath.Join(m.dir, disk+".raw") }

// PIDFile is the file with the number of the process, whatever the machine's id.
func (m *Machine) PIDFile(int) string { return filepath.Join(m.dir, "pid") }

// Write is a write of the guest.
func (m *Machine) Write(t testing.TB, disk string, off, n int64, pattern byte) {
	t.Helper()
	m.VM.Write(t, disk, off, n, pattern)
}

// Content is what a disk holds now.
func (m *Machine) Content(t testing.TB, disk string) []byte {
	t.Helper()
	b, err := os.ReadFile(m.path(disk))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Sizes are those of the devices, as the platform calls them.
func (m *Machine) Sizes() map[string]int64 {
	sizes := map[string]int64{}
	for d, n := range m.sizes {
		sizes[device(d)] = n
	}
	return sizes
}

func device(disk string) string { return "drive-" + disk }

// Setup makes the disks stand still, with the bitmaps that were asked for, and
// exports them.
func (m *Machine) Setup(t testing.TB, bitmaps map[string]provider.Bitmap) map[string]provider.Disk {
	t.Helper()
	m.point++
	m.modes = map[string]provider.Mode{}
	socket := filepath.Join(filepath.Dir(m.VM.QMP), fmt.Sprintf("nbd%d", m.point))
	m.VM.Run(t, "nbd-server-start", map[string]any{"addr": map[string]any{"type": "unix", "data": map[string]string{"path": socket}}}, nil)
	disks := map[string]provider.Disk{}
	for _, d := range slices.Sorted(maps.Keys(m.sizes)) {
		mode := m.bitmap(t, d, bitmaps[device(d)])
		m.modes[d] = mode
		m.filter(t, d, mode)
		export := map[string]any{"type": "nbd", "id": "export-" + d, "node-name": "access-" + d, "name": device(d), "writable": true}
		if mode == provider.ModeReuse {
			export["bitmaps"] = []any{map[string]string{"node": "node-" + d, "name": bitmapName}}
		}
		m.VM.Run(t, "block-export-add", export, nil)
		v := provider.Disk{Size: m.sizes[d], Mode: mode, NBDPath: socket}
		if mode == provider.ModeReuse {
			v.BitmapName = bitmapName
		}
		disks[device(d)] = v
	}
	return disks
}

// bitmap prepares the bitmap of a disk and says what became of the wish.
func (m *Machine) bitmap(t testing.TB, disk string, wish provider.Bitmap) provider.Mode {
	t.Helper()
	node := "node-" + disk
	switch {
	case wish == provider.BitmapUse && m.has[disk]:
		m.VM.Run(t, "transaction", map[string]any{"actions": []any{
			action("block-dirty-bitmap-disable", node, bitmapName),
			map[string]any{"type": "block-dirty-bitmap-add", "data": map[string]any{"node": node, "name": backgroundName, "granularity": Granularity}},
		}}, nil)
		return provider.ModeReuse
	case m.has[disk]:
		m.VM.Run(t, "block-dirty-bitmap-remove", map[string]string{"node": node, "name": bitmapName}, nil)
		delete(m.has, disk)
	}
	if wish == "" || wish == provider.BitmapNone {
		return provider.ModeNone
	}
	m.VM.Run(t, "block-dirty-bitmap-add", map[string]any{"node": node, "name": bitmapName, "granularity": Granularity}, nil)
	m.has[disk] = true
	return provider.ModeNew
}

func action(name, node, bitmap string) map[string]any {
	return map[string]any{"type": name, "data": map[string]string{"node": node, "name": bitmap}}
}

// filter puts the filter between device and disk.
func (m *Machine) filter(t testing.TB, disk string, mode provider.Mode) {
	t.Helper()
	scratch := filepath.Join(m.dir, "scratch-"+disk)
	f, err := os.Create(scratch)
	if err == nil {
		err = f.Truncate(m.sizes[disk])
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	m.VM.Run(t, "blockdev-add", map[string]any{
		"driver": "raw", "node-name": "scratch-" + disk, "discard": "unmap",
		"file": map[string]any{"driver": "file", "filename": scratch, "discard": "unmap"},
	}, nil)
	cbw := map[string]any{
		"driver": "copy-before-write", "node-name": "cbw-" + disk, "file": "node-" + disk, "target": "scratch-" + disk,
		"on-cbw-error": "break-snapshot", "cbw-timeout": 45, "discard": "unmap",
	}
	if mode == provider.ModeReuse {
		cbw["bitmap"] = map[string]string{"node": "node-" + disk, "name": bitmapName}
	}
	m.VM.Run(t, "blockdev-add", cbw, nil)
	m.VM.Run(t, "qom-set", map[string]string{"path": "/machine/peripheral/" + disk, "property": "drive", "value": "cbw-" + disk}, nil)
	m.VM.Run(t, "blockdev-add", map[string]any{"driver": "snapshot-access", "node-name": "access-" + disk, "file": "cbw-" + disk, "discard": "unmap"}, nil)
}

// Teardown ends the point; success is what the platform makes of a backup_vm that
// returned without an error.
func (m *Machine) Teardown(t testing.TB, success bool) {
	t.Helper()
	for _, d := range slices.Sorted(maps.Keys(m.sizes)) {
		m.VM.Run(t, "block-export-del", map[string]string{"id": "export-" + d, "mode": "hard"}, nil)
	}
	m.VM.Run(t, "nbd-server-stop", nil, nil)
	for _, d := range slices.Sorted(maps.Keys(m.sizes)) {
		m.unfilter(t, d)
		m.settle(t, d, success)
	}
	m.modes = nil
}

func (m *Machine) unfilter(t testing.TB, disk string) {
	t.Helper()
	m.VM.Run(t, "blockdev-del", map[string]string{"node-name": "access-" + disk}, nil)
	m.VM.Run(t, "qom-set", map[string]string{"path": "/machine/peripheral/" + disk, "property": "drive", "value": "node-" + disk}, nil)
	m.VM.Run(t, "blockdev-del", map[string]string{"node-name": "cbw-" + disk}, nil)
	m.VM.Run(t, "blockdev-del", map[string]string{"node-name": "scratch-" + disk}, nil)
}

func (m *Machine) settle(t testing.TB, disk string, success bool) {
	t.Helper()
	node := "node-" + disk
	switch mode := m.modes[disk]; {
	case mode == provider.ModeNew && !success: // it says that everything is dirty, which having none does too
		m.VM.Run(t, "block-dirty-bitmap-remove", map[string]string{"node": node, "name": bitmapName}, nil)
		delete(m.has, disk)
	case mode == provider.ModeReuse:
		if success {
			m.VM.Run(t, "block-dirty-bitmap-clear", map[string]string{"node": node, "name": bitmapName}, nil)
		}
		m.VM.Run(t, "block-dirty-bitmap-enable", map[string]string{"node": node, "name": bitmapName}, nil)
		m.VM.Run(t, "block-dirty-bitmap-merge", map[string]any{"node": node, "target": bitmapName, "bitmaps": []string{backgroundName}}, nil)
		m.VM.Run(t, "block-dirty-bitmap-remove", map[string]string{"node": node, "name": backgroundName}, nil)
	}
}

// ScratchUsed is how much the scratch disk of a disk takes, in bytes.
func (m *Machine) ScratchUsed(t testing.TB, disk string) int64 {
	t.Helper()
	return allocated(t, filepath.Join(m.dir, "scratch-"+disk))
}
