// Package upgrade turns an HTTP/1.1 connection into one that speaks HTTP/2, at
// both of its ends.
//
// # Protocol
//
//	GET PATH HTTP/1.1
//	Upgrade: proxmox-backup-protocol-v1         or -reader-protocol-v1
//	Connection: upgrade
//
//	HTTP/1.1 101 Switching Protocols
//	connection: upgrade
//	upgrade: proxmox-backup-protocol-v1
//
// There is no body. Directly behind the answer's blank line HTTP/2 begins with
// its client preface, on the same TLS stream, without ALPN. An answer other
// than 101 refuses, with its reason as text.
//
// # HTTP/2
//
//	server   4 MiB frames, windows of 32 MiB for a stream and for the connection
//	         unless a session narrows them, 250 streams, 64 KiB of headers, no idle timeout: a client may think
//	         for hours, and TCP finds out that it is gone
//	client   4 MiB frames, windows of 16 MiB for a stream, 128 MiB for the
//	         connection; asks after a minute of silence whether the server is there
//
// A path without a leading slash gets one: HTTP/2 forbids it, and there are clients
// that send it, since most builds of the existing server take it.
//
// The server's end is that of net/http, which documents a limit of 4 MiB for
// windows and does not enforce it; a test watches what is announced, and nothing
// here depends on the size. The client's end is package h2.
//
// # One connection, one session
//
// A session lives and dies with its connection. [Client] never dials again:
// after the end of its connection every call fails with the same
// [*LostError]. [Conn.Serve] returns when the connection has ended and no
// handler runs any more.
//
// # Source
//
// proxmox-rs: proxmox-http, proxmox-rest-server; proxmox-backup:
// pbs-client/src/http_client.rs, src/api2/backup/mod.rs.
package upgrade

// The protocols that a connection can be upgraded to.
const (
	Backup = "proxmox-backup-protocol-v1"
	Reader = "proxmox-backup-reader-protocol-v1"
)

const mib = 1 << 20
