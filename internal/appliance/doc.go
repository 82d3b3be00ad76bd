// Package appliance builds and runs a small virtual machine: a stock Linux
// kernel, an initial RAM file system made here, and one static program inside.
//
// It is for work that needs a kernel but must not touch the host's: mounting what
// a stranger's disk image holds, and tests of kernel features. There is no network,
// no shell and no disk but those given; the machine's memory is its only state.
//
// # Parts
//
//   - [FindKernel] finds a kernel: one that is named, one in the cache, the host's
//     own, or one from a Debian package file in the cache, unpacked there once.
//   - package kmod finds the modules and their order, package initramfs packs them with
//     the program and host tools. [Start] does both in memory: nothing is left behind.
//   - [Start] runs QEMU and waits for the agent inside ([VM.Hello]). [VM.Run], [VM.Put],
//     [VM.Get], [VM.Mount], [VM.Load] work through one virtio-serial port (package
//     wire); any number at a time up to 64. Package guest is the other end. With
//     [Config.Vsock], and /dev/vhost-vsock, they go through a stream socket to the machine, which it
//     opens to who says its token; where that does not answer, through the port.
//
// # The machine
//
// q35, or virt for arm64, with one CPU and 256 MiB unless told otherwise, no default devices, the serial
// console, virtio-rng, the serial port, and drives as virtio-blk: raw or qcow2 files,
// block devices, or an NBD export, which QEMU itself reads. Drive i (from 0) has the serial
// "hf000" + i unless it names one; at most [MaxDrives]. QEMU runs in its seccomp sandbox.
//
// With [AccelAuto] KVM is tried first where /dev/kvm opens. On some hosts KVM exists and
// does not run such a guest: QEMU fails, or hangs. So the kernel gets [Config.KVMWait] to
// reach its first program; after that the machine starts anew with QEMU's own emulation (TCG), and
// the user's cache remembers it until the host boots again.
//
// # Life
//
// QEMU is a child that the kernel kills when this process dies, whatever the reason. [VM.Close]
// kills and reaps it; [VM.Shutdown] asks the guest first, so that writes reach the drives.
// Its input files have no names. Memory of this process: the initramfs while it is
// written, 64 KiB of console, and the sessions' windows.
//
// # Errors
//
// [ErrNoQEMU] and [ErrNoKernel] say which package to install. When the guest does not come up, or
// dies, the error ends with the last lines of its console and of QEMU's messages.
package appliance
