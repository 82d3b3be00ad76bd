// Package nbdserver serves disk images over NBD: to QEMU, libnbd's programs,
// the kernel, and this project's own client.
//
// # Protocol
//
// The fixed newstyle handshake with the options EXPORT_NAME, ABORT, LIST,
// STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT and
// EXTENDED_HEADERS; simple, structured and extended replies; every command but
// RESIZE. [Server.ServeTransmission] leaves the handshake out, for a socket
// whose other end belongs to the kernel.
//
// base:allocation comes from the image ([image.Extenter]): zeros are
// HOLE|ZERO. A READ with structured replies answers zeros with holes, unless DF
// asks for one piece. CACHE is [image.Adviser]. An export is writable when its
// image is an [image.Device] and nobody said otherwise; FUA is a Flush behind
// the command, WRITE_ZEROES with NO_HOLE writes zeros, and FAST_ZERO is refused
// (ENOTSUP) only together with NO_HOLE. CAN_MULTI_CONN is always set: what is
// read does not change, and Flush of a device covers all connections.
//
// # Requests in flight
//
// One goroutine per connection reads requests. It answers itself what needs no
// waiting: refusals, hints, and small reads that the image gives at once
// (TryReadAt). Everything else goes to at most [Options.MaxRequests] workers of
// that connection. Replies that become ready while others are being sent leave
// together; so do those to requests that arrived together.
//
// # Memory
//
// [Options.Memory] bytes for the payloads of reads and writes of all
// connections, outside the Go heap, of which one connection uses at most half
// unless it is a single request; a reader that finds none free stops reading
// until there is. Besides this, each connection takes 32 KiB for requests, up to
// 0.5 MiB for replies under way, and 128 KiB for each worker that has answered
// long BLOCK_STATUS requests. The 32 MiB limit of a request is the protocol's: a
// longer READ is EINVAL, a longer WRITE ends the connection.
//
// # Bad peers
//
// The handshake must be over within [Options.HandshakeTimeout] and
// [maxOptions] options. A peer that has begun a request must go on, and a peer
// that has asked must take its replies, at 64 KiB/s after a first
// [Options.StallTimeout]; otherwise it is dropped. An idle peer is not.
//
// # Errors
//
// Failures of an image reach the client as the error number that fits best
// ([nbd.ErrnoOf]) and, except in simple replies, with the error's text, which
// names the chunk or file. They are also logged, once per connection at Warn.
//
// # TLS
//
// TLS 1.2 or later with certificates, offered or required. Pre-shared keys are
// not supported: Go's crypto/tls has none, and no maintained module adds them.
package nbdserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// ErrClosed is returned by a server that was shut down.
var ErrClosed = errors.New("nbd server closed")

// Options configures a server. The zero value of everything but Exports is
// useful.
type Options struct {
	Exports []*Export
	// Default names the export that a client gets who gives no name. Without
	// it that is the export with the empty name, or the only one.
	Default string

	// TLS makes the server offer TLS; ClientAuth and ClientCAs in it ask for
	// certificates of clients. RequireTLS refuses everything else.
	TLS        *tls.Config
	RequireTLS bool

	MaxConnections   int           // 0: 64; further ones are closed at once
	MaxRequests      int           // that wait for the image, of one connection; 0: 32
	Memory           int64         // bytes for payloads; 0 and what is less: 32 MiB
	HandshakeTimeout time.Duration // 0: 30 s
	StallTimeout     time.Duration // 0: 60 s
	// IdleTimeout lets Serve return when there was no connection for so long;
	// 0: never.
	IdleTimeout time.Duration

	Log *slog.Logger // nil: nothing
}

// The limits that are not options.
const (
	maxOptions    = 1024     // of one handshake
	maxOptionData = 16 << 10 // bytes; QEMU takes 32 KiB names together, nobody sends more than a few hundred
	maxDrain      = 1 << 20  // bytes of a longer option that are read and dropped
	slowest       = 64 << 10 // bytes a second
	shutdownGrace = 250 * time.Millisecond
)

// Server serves exports. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	err     error // of the options
	log     *slog.Logger
	pool    *pool
	exports []*export // those that clients see, in order

	mu        sync.Mutex
	hidden    map[*Export]*export // those of ServeTransmission only
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	closing   bool
	ended     chan struct{} // closed when the last connection of a closing server is gone
	idle      *time.Timer
	accepted  int64
	refused   int64
}

// New returns a server. What is wrong with the options is the error of
// whatever is served first.
func New(opts Options) *Server {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&opts.HandshakeTimeout, 30*time.Second)
	def(&opts.StallTimeout, 60*time.Second)
	if opts.MaxConnections <= 0 {
		opts.MaxConnections = 64
	}
	if opts.MaxRequests <= 0 {
		opts.MaxRequests = 32
	}
	opts.Memory = max(opts.Memory, nbd.MaxPayload)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: opts, log: opts.Log, pool: newPool(opts.Memory),
		hidden: map[*Export]*export{}, listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
		ended: make(chan struct{}),
	}
	for _, e := range opts.Exports {
		x, err := newExport(e)
		if err == nil && s.named(e.Name) != nil {
			err = fmt.Errorf("nbd server: two exports are named %q", e.Name)
		}
		if err != nil {
			s.err = errors.Join(s.err, err)
			continue
		}
		s.exports = append(s.exports, x)
	}
	if opts.Default != "" && s.named(opts.Default) == nil {
		s.err = errors.Join(s.err, fmt.Errorf("nbd server: there is no export %q to be the default", opts.Default))
	}
	if opts.RequireTLS && opts.TLS == nil {
		s.err = errors.Join(s.err, errors.New("nbd server: TLS is required but has no certificate"))
	}
	return s
}

func (s *Server) named(name string) *export {
	for _, x := range s.exports {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// find returns the export that a client means by name, or nil.
func (s *Server) find(name string) *export {
	if x := s.named(name); x != nil || name != "" {
		return x
	}
	if s.opts.Default != "" {
		return s.named(s.opts.Default)
	}
	if len(s.exports) == 1 {
		return s.exports[0]
	}
	return nil
}

var _ image.Extenter = (*export)(nil)
