// Package libvirttest runs a libvirt daemon for tests: the real one, with the
// QEMU driver, but nothing that it shares with the host. Its directories are
// bound over those of the host in a mount namespace of its own, so a daemon that
// runs on the host sees nothing of it, and nothing stays behind.
//
// Domains are of type qemu (without KVM), have no operating system, and stop in
// their BIOS. What a guest would write is written through QEMU's monitor.
package libvirttest
