// Package vsock opens stream sockets between a host and its virtual machines: address
// family AF_VSOCK, where a machine has a number (its CID) instead of an address.
//
// [Device] is the host's end of a machine's device, for QEMU; it exists where the kernel
// has vhost_vsock, and needs its permission. Files are non-blocking, so that closing one ends
// what waits for it.
//
// Source: vsock(7), linux/vhost.h.
package vsock
