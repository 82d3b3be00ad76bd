package nbdserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// handshake is what the options have agreed on so far.
type handshake struct {
	noZeroes   bool
	secure     bool
	structured bool
	extended   bool
	meta       *export // whose contexts were selected
	metas      []selected
	reply      []byte
}

// dialect is what transmission would speak.
func (h *handshake) dialect() nbd.Mode {
	switch {
	case h.extended:
		return nbd.Extended
	case h.structured:
		return nbd.Structured
	}
	return nbd.Simple
}

// handshake answers options until the client has chosen an export (then exp is
// set) or leaves.
func (c *conn) handshake() error {
	deadline := time.Now().Add(c.s.opts.HandshakeTimeout)
	_ = c.raw.SetWriteDeadline(deadline)
	c.in.deadline(deadline)
	const offer = nbd.FixedNewstyle | nbd.NoZeroes
	c.hand.reply = nbd.AppendGreeting(c.hand.reply[:0], offer)
	if err := c.sendReply(); err != nil {
		return err
	}
	if err := c.in.need(nbd.ClientFlagsSize); err != nil {
		return err
	}
	f, err := nbd.ParseClientFlags(c.in.take(nbd.ClientFlagsSize))
	if err != nil {
		return err
	}
	if f&^offer != 0 {
		return fmt.Errorf("client flags %#x, of which %#x were not offered", uint32(f), uint32(f&^offer))
	}
	c.hand.noZeroes = f&nbd.NoZeroes != 0
	for range maxOptions {
		if c.exp != nil {
			c.setMode(c.hand.dialect())
			if c.hand.meta == c.exp {
				c.contexts = c.hand.metas
			}
			c.hand = handshake{}
			return nil
		}
		if err := c.option(); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d options", maxOptions)
}

// option answers one.
func (c *conn) option() error {
	if err := c.in.need(nbd.OptionHeaderSize); err != nil {
		return err
	}
	h, err := nbd.ParseOptionHeader(c.in.take(nbd.OptionHeaderSize))
	if err != nil {
		return err
	}
	c.hand.reply = c.hand.reply[:0]
	if h.Length > maxOptionData {
		if h.Option == nbd.OptExportName || h.Length > maxDrain {
			return fmt.Errorf("option %s with %d bytes", h.Option, h.Length)
		}
		if err := c.in.discard(int64(h.Length)); err != nil {
			return err
		}
		return c.refuseOption(h.Option, nbd.RepErrTooBig, fmt.Sprintf("%d bytes, at most %d", h.Length, maxOptionData))
	}
	if err := c.in.need(int(h.Length)); err != nil {
		return err
	}
	err = c.answerOption(h.Option, c.in.take(int(h.Length)))
	if no, ok := errors.AsType[*nbd.OptionError](err); ok {
		return c.refuseOption(h.Option, no.Type, no.Text)
	}
	return err
}

// answerOption answers an option with its data. An [nbd.OptionError] is the
// refusal; any other error ends the connection.
func (c *conn) answerOption(o nbd.Option, data []byte) error {
	switch {
	case o == nbd.OptAbort:
		_ = c.acknowledge(o)
		return io.EOF
	case c.in.draining.Load():
		return refuseWith(nbd.RepErrShutdown, "the server is shutting down")
	case o == nbd.OptExportName && c.s.opts.RequireTLS && !c.hand.secure:
		return errors.New("EXPORT_NAME without TLS, which this server requires")
	case o != nbd.OptStartTLS && c.s.opts.RequireTLS && !c.hand.secure:
		return refuseWith(nbd.RepErrTLSReqd, "this server requires TLS")
	}
	switch o {
	case nbd.OptExportName:
		return c.exportName(data)
	case nbd.OptList:
		return c.list(data)
	case nbd.OptStartTLS:
		return c.startTLS(data)
	case nbd.OptInfo, nbd.OptGo:
		return c.info(o, data)
	case nbd.OptStructuredReply, nbd.OptExtendedHeaders:
		return c.dialect(o, data)
	case nbd.OptListMetaContext, nbd.OptSetMetaContext:
		return c.metaContext(o, data)
	}
	return refuseWith(nbd.RepErrUnsup, "option "+o.String()+" is not supported")
}

func refuseWith(t nbd.ReplyType, text string) error { return &nbd.OptionError{Type: t, Text: text} }

func (c *conn) refuseOption(o nbd.Option, t nbd.ReplyType, text string) error {
	c.hand.reply = nbd.AppendOptionReply(c.hand.reply[:0], o, t, []byte(wireText(text)))
	return c.sendReply()
}

// acknowledge ends the answer to an option.
func (c *conn) acknowledge(o nbd.Option) error {
	c.hand.reply = nbd.AppendOptionReply(c.hand.reply, o, nbd.RepAck, nil)
	return c.sendReply()
}

func (c *conn) sendReply() error {
	_, err := c.out.nc.Write(c.hand.reply)
	return err
}

// startTLS acknowledges and turns the connection into a TLS one. What was
// agreed before is forgotten.
func (c *conn) startTLS(data []byte) error {
	switch {
	case len(data) > 0:
		return refuseWith(nbd.RepErrInvalid, "STARTTLS has no data")
	case c.s.opts.TLS == nil:
		return refuseWith(nbd.RepErrPolicy, "this server does not offer TLS")
	case c.hand.secure:
		return refuseWith(nbd.RepErrInvalid, "TLS is on already")
	case c.in.buffered() > 0: // would be taken for something that came inside TLS
		return errors.New("plain text behind STARTTLS")
	}
	if err := c.acknowledge(nbd.OptStartTLS); err != nil {
		return err
	}
	tc := tls.Server(c.raw, c.s.opts.TLS)
	if err := tc.HandshakeContext(c.ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.in.nc, c.out.nc = tc, tc
	c.hand = handshake{noZeroes: c.hand.noZeroes, secure: true}
	return nil
}
