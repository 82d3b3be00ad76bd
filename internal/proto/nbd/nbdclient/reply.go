package nbdclient

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// readReplies reads until the connection ends or the server breaks the
// protocol, and says why.
func (c *conn) readReplies() error {
	if n := c.r.Buffered(); n > 0 {
		return fmt.Errorf("%w: %d bytes that nobody asked for", ErrProtocol, n)
	}
	c.r.Reset(c)
	for {
		if err := c.readReply(); err != nil {
			return lost(err)
		}
	}
}

// readReply reads a simple reply or a chunk.
func (c *conn) readReply() error {
	if c.s.mode != nbd.Extended {
		start, err := c.r.Peek(4)
		if err != nil {
			return err
		}
		if c.s.mode == nbd.Simple || nbd.IsSimpleReply(start) {
			return c.simple()
		}
	}
	b := c.scratch[:nbd.ChunkHeaderSize(c.s.mode)]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	h, err := nbd.ParseChunk(b, c.s.mode)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	done := h.Flags&nbd.FlagDone != 0
	k, err := c.take(h.Cookie, false)
	if err != nil {
		return err
	}
	if c.s.mode == nbd.Extended && h.Offset != uint64(k.off) {
		return fmt.Errorf("%w: a reply to the request at offset %d names offset %d", ErrProtocol, k.off, h.Offset)
	}
	if err := c.chunk(k, h); err != nil {
		return err
	}
	if !done {
		return nil
	}
	return c.last(k)
}

// last ends a call after its last reply.
func (c *conn) last(k *call) error {
	if _, err := c.take(k.cookie, true); err != nil {
		return err
	}
	if k.refused != nil && k.refused.Errno == nbd.ESHUTDOWN {
		err := &lostError{fmt.Errorf("the server shuts down: %w", k.refused)}
		c.end(k, err)
		return err
	}
	err := k.finish(c.s)
	c.end(k, nil)
	return err
}

// simple reads a simple reply. One that refuses a READ is taken from servers
// with structured replies too, for it says all there is to say.
func (c *conn) simple() error {
	b := c.scratch[:nbd.SimpleReplySize]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	r, err := nbd.ParseSimpleReply(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	k, err := c.take(r.Cookie, false)
	if err != nil {
		return err
	}
	switch {
	case r.Errno != nbd.OK:
		k.refuse(nbd.Error{Errno: r.Errno})
	case k.cmd == nbd.CmdRead && c.s.mode != nbd.Simple, k.cmd == nbd.CmdBlockStatus:
		return fmt.Errorf("%w: a simple reply to %s", ErrProtocol, k.cmd)
	case k.cmd == nbd.CmdRead:
		if err := k.cover.add(0, len(k.dst)); err != nil {
			return err
		}
		if _, err := io.ReadFull(c.r, k.dst); err != nil {
			return err
		}
	}
	return c.last(k)
}

// chunk reads the payload of a chunk.
func (c *conn) chunk(k *call, h nbd.Chunk) error {
	switch {
	case h.Type.IsError():
		return c.failed(k, h)
	case h.Type == nbd.ChunkNone && h.Length == 0 && h.Flags&nbd.FlagDone != 0:
		return nil
	case h.Type == nbd.ChunkOffsetData && k.cmd == nbd.CmdRead:
		return c.data(k, h)
	case h.Type == nbd.ChunkOffsetHole && k.cmd == nbd.CmdRead:
		return c.hole(k, h)
	case h.Type == nbd.ChunkBlockStatus && k.cmd == nbd.CmdBlockStatus && c.s.mode == nbd.Structured:
		return c.blockStatus(k, h.Length, 4, 8)
	case h.Type == nbd.ChunkBlockStatusExt && k.cmd == nbd.CmdBlockStatus && c.s.mode == nbd.Extended:
		return c.blockStatus(k, h.Length, 8, 16)
	}
	return fmt.Errorf("%w: a chunk %s of %d bytes in answer to %s", ErrProtocol, h.Type, h.Length, k.cmd)
}

func (c *conn) failed(k *call, h nbd.Chunk) error {
	const most = 6 + nbd.MaxString + 8
	if h.Length > most {
		return fmt.Errorf("%w: an error of %d bytes", ErrProtocol, h.Length)
	}
	b := make([]byte, h.Length)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	f, err := nbd.ParseChunkFailure(b, h.Type)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	k.refuse(f.Error)
	return nil
}

// data reads a piece of a READ to where it belongs.
func (c *conn) data(k *call, h nbd.Chunk) error {
	if h.Length < 9 || h.Length-8 > uint64(len(k.dst)) {
		return fmt.Errorf("%w: a chunk of data of %d bytes in answer to a read of %d", ErrProtocol, h.Length, len(k.dst))
	}
	b := c.scratch[:8]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	to, err := k.place(binary.BigEndian.Uint64(b), h.Length-8)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(c.r, to)
	return err
}

func (c *conn) hole(k *call, h nbd.Chunk) error {
	if h.Length != nbd.HoleSize {
		return fmt.Errorf("%w: a hole's chunk of %d bytes", ErrProtocol, h.Length)
	}
	b := c.scratch[:nbd.HoleSize]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	hole, err := nbd.ParseHole(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	to, err := k.place(hole.Offset, uint64(hole.Length))
	if err != nil {
		return err
	}
	clear(to)
	return nil
}

// place is where n > 0 bytes of the disk at off go; they may come once.
func (k *call) place(off, n uint64) ([]byte, error) {
	start, size := uint64(k.off), uint64(len(k.dst))
	if off < start || n == 0 || n > size || off-start > size-n {
		return nil, fmt.Errorf("%w: %d bytes at offset %d in answer to a read of %d at %d", ErrProtocol, n, off, size, start)
	}
	from := int(off - start)
	if err := k.cover.add(from, from+int(n)); err != nil {
		return nil, err
	}
	return k.dst[from : from+int(n)], nil
}

// blockStatus reads the extents of one context.
func (c *conn) blockStatus(k *call, length uint64, head, each int) error {
	n := (length - uint64(head)) / uint64(each)
	if length < uint64(head+each) || length != uint64(head)+n*uint64(each) || n > nbd.MaxExtents {
		return fmt.Errorf("%w: a block status of %d bytes", ErrProtocol, length)
	}
	b := c.scratch[:head]
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	i, ok := c.s.ids[binary.BigEndian.Uint32(b)]
	if !ok {
		return fmt.Errorf("%w: status of a context %d, which was not selected", ErrProtocol, binary.BigEndian.Uint32(b))
	}
	if k.status == nil {
		k.status = make([]*runs, len(c.s.contexts))
	}
	if k.status[i] != nil {
		return fmt.Errorf("%w: status of %s twice in one reply", ErrProtocol, c.s.contexts[i])
	}
	if each == 16 { // 0: the length says it
		if said := binary.BigEndian.Uint32(b[4:]); said != 0 && uint64(said) != n {
			return fmt.Errorf("%w: a block status with %d extents says that it has %d", ErrProtocol, n, said)
		}
	}
	list := &runs{start: k.off}
	for b = c.scratch[:each]; n > 0; n-- {
		if _, err := io.ReadFull(c.r, b); err != nil {
			return err
		}
		length, flags := uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
		if each == 16 {
			length, flags = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		}
		if err := list.add(length, flags, k.off+k.length, k.size); err != nil {
			return err
		}
	}
	k.status[i] = list
	return nil
}
