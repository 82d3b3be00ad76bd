package nbdclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// The errors that callers tell apart.
var (
	// ErrProtocol is wrapped when the server breaks the protocol.
	ErrProtocol = errors.New("the server breaks the NBD protocol")
	// ErrChanged is wrapped when the export is not what it was when it was
	// opened.
	ErrChanged = errors.New("the export has changed")
	// ErrTimeout is wrapped when the server does not answer.
	ErrTimeout = errors.New("the server does not answer")

	errClosed = errors.New("the connection was closed")
)

// Options says how an export is used. The zero value is useful.
type Options struct {
	// Connections is the most connections to one export; 0 means 4. There is
	// one only where the server does not promise that many see the same data.
	Connections int
	// RequestSize is the most bytes of one READ or WRITE; 0 means 512 KiB.
	RequestSize int
	// Timeout bounds the handshake, and how long nothing may arrive while
	// requests wait; 0 means a minute. One request takes ten times as long at
	// most.
	Timeout time.Duration
	// Patience bounds how long requests that may be repeated are; 0 means two
	// minutes, below 0 nothing is repeated.
	Patience time.Duration

	// Contexts are wanted beside base:allocation; one that the export lacks is
	// an error. An entry that ends in a colon stands for all that begin so.
	Contexts []string
	// NoAllocation does without base:allocation: for exports that fail when
	// they are asked, and servers that are not trusted to answer truly.
	NoAllocation bool

	// Certificates is a directory with ca-cert.pem, client-cert.pem and
	// client-key.pem, instead of the one that the URI names.
	Certificates string
	// Dial opens connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Size is that of the image which comes to a target; a smaller export is
	// refused, the rest of a larger one left alone. 0 means the whole export.
	Size int64
	// Fresh is the caller's word that a target reads as zeros everywhere.
	Fresh bool
}

// The defaults and bounds of Options.
const (
	defaultConnections = 4
	maxConnections     = 64
	defaultRequest     = 512 << 10
	defaultTimeout     = time.Minute
	defaultPatience    = 2 * time.Minute
	ageFactor          = 10 // of Timeout, for one request
)

func (o Options) withDefaults() (Options, error) {
	if o.Connections < 0 || o.RequestSize < 0 || o.Timeout < 0 || o.Size < 0 {
		return o, fmt.Errorf("nbd: a number below zero in the options: %d connections, requests of %d bytes, timeout %s, size %d",
			o.Connections, o.RequestSize, o.Timeout, o.Size)
	}
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	o.Connections = min(o.Connections, maxConnections)
	if o.RequestSize == 0 {
		o.RequestSize = defaultRequest
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext // with TCP keep-alive and without Nagle, as Go does it
	}
	return o, nil
}

// lostError is a connection that is gone; what was under way may be repeated.
type lostError struct{ err error }

func (e *lostError) Error() string { return "connection lost: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func isLost(err error) bool {
	_, ok := errors.AsType[*lostError](err)
	return ok
}
