// Package h2 is the client's end of HTTP/2 on one connection, for calls that
// carry megabytes between memory and the wire.
//
// net/http speaks HTTP/2 too. It takes each byte of an answer through a buffer
// for the frame and through one on the heap, and each byte of a request through
// two more, and what is on its way makes the heap grow. For a restore over TLS
// that is half of what the transfer costs the client. Here an answer is copied once, from
// the records of TLS to where it is read to, and so is a request.
//
// # Calls
//
// [Conn.RoundTrip] makes one call; many may run at a time. The body of a request
// must have a known length and be ready: it is read while the connection is
// held. Bodies go out one after the other, not in turns, so that the peer can
// work on the first while the next is on its way; small ones pass them.
// Reading the body of an answer fills the given bytes as far as the answer goes,
// where other readers return what there is.
//
// # What is not here
//
// Push, priorities, trailers, CONNECT, and requests that begin before their body
// is complete. A trailer that is sent is read and dropped.
//
// # Limits
//
// 64 KiB of header fields in an answer. Of data that nobody has read yet, the
// windows that [Options] announce: that much memory the peer can take. Control
// frames that wait to be sent, 64 KiB: a peer that asks for more is not a
// friend. Whatever breaks the protocol ends the connection, and every call on it
// with the same error.
//
// # Locks
//
//	turn    a long body is sent
//	write   frames go to the connection; above mu
//	mu      windows and the table of streams
//	stream  what has arrived of an answer
//
// None but write is held while the connection is waited for, and write by
// goroutines only that nobody waits for but Close.
//
// # Source
//
// RFC 9113, RFC 7541.
package h2

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Options are what is announced to the peer.
type Options struct {
	Frame  int           // largest frame
	Window int           // bytes of all answers together that were not read yet
	Stream int           // bytes of one
	Ping   time.Duration // how long the peer may be silent, and then once more after it was asked
}

// Conn is a connection. It is safe for concurrent use.
type Conn struct {
	conn  net.Conn
	opt   Options
	in    *bufio.Reader // of the reading goroutine
	dec   *hpack.Decoder
	spare sync.Pool // of *part
	runs  sync.WaitGroup

	turn sync.Mutex

	write sync.Mutex
	out   []byte // a frame
	enc   *hpack.Encoder
	table uint32       // of enc
	block bytes.Buffer // header fields

	mu       sync.Mutex
	moved    *sync.Cond // something below that a request waits for
	err      error      // the end
	leaving  error      // why there can be no more calls
	streams  map[uint32]*stream
	next     uint32 // number of a stream
	opening  int    // streams that have a place and no number yet
	most     uint32 // streams at a time
	frame    int    // largest frame to send
	initial  int64  // window of a new stream
	window   int64  // bytes to send
	unread   int    // bytes that the peer has sent and not got back
	credit   int    // of them, to be given back
	control  []byte
	tableMax uint32 // of the encoder
	idle     *time.Timer
	asked    bool // since the last frame
}

const (
	piece      = 128 << 10 // of a body, in one frame
	small      = 64 << 10  // a body of no more goes without a turn
	maxControl = 64 << 10
	maxFields  = 64 << 10

	frameDefault  = 16 << 10
	windowDefault = 1<<16 - 1
	windowMax     = 1<<31 - 1
	streamMax     = 1<<31 - 1
	tableDefault  = 4 << 10
)

// errClosed is the end of a connection that was closed here.
var errClosed = errors.New("it was closed here")

// New speaks HTTP/2 on conn, which it owns.
func New(conn net.Conn, o Options) *Conn {
	c := &Conn{
		conn: conn, opt: o, in: bufio.NewReaderSize(conn, 32<<10), out: make([]byte, headerSize+piece),
		streams: map[uint32]*stream{}, next: 1, most: 100,
		frame: frameDefault, initial: windowDefault, window: windowDefault, table: tableDefault, tableMax: tableDefault,
	}
	c.moved = sync.NewCond(&c.mu)
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(tableDefault, nil)
	c.dec.SetMaxStringLength(maxFields)
	hello := append([]byte(nil), preface...)
	hello = appendSettings(hello, setting{settingPush, 0}, setting{settingWindow, uint32(o.Stream)}, setting{settingFrame, uint32(o.Frame)})
	hello = appendNumber(hello, frameWindowUpdate, 0, uint32(o.Window-windowDefault))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = time.AfterFunc(o.Ping, c.silent)
	c.runs.Go(c.read)
	c.write.Lock() // nothing goes before hello
	c.runs.Go(func() {
		err := c.put(hello)
		c.write.Unlock()
		if err == nil {
			c.writeControl()
		}
	})
	return c
}

// Err returns why the connection has ended or is about to, nil while calls can
// be made.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over()
}

// Close ends the connection at once and returns when nothing runs for it any
// more. Calls that wait fail.
func (c *Conn) Close() error {
	err := c.end(errClosed)
	c.runs.Wait()
	return err
}

// end ends the connection because of why, which is what all calls fail with.
func (c *Conn) end(why error) error {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil
	}
	c.err = why
	c.idle.Stop()
	streams := c.streams
	c.streams = map[uint32]*stream{}
	c.moved.Broadcast()
	c.mu.Unlock()
	for _, s := range streams {
		s.finish(why)
	}
	return c.conn.Close()
}

// queue sends a control frame soon. The caller holds mu.
func (c *Conn) queue(frame []byte) {
	c.control = append(c.control, frame...)
	c.moved.Broadcast()
}

// writeControl sends control frames until the end. So the goroutine that reads
// never waits for the peer to read.
func (c *Conn) writeControl() {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.control) == 0 && c.err == nil {
			c.moved.Wait()
		}
		frames := c.control
		c.control = spare[:0]
		over := c.err != nil
		c.mu.Unlock()
		if over {
			return
		}
		c.write.Lock()
		err := c.put(frames)
		c.write.Unlock()
		if err != nil {
			return
		}
		spare = frames
	}
}
