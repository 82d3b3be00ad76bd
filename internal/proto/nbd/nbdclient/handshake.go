package nbdclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Bounds of what a server may send in answer to one option.
const (
	maxReply   = 16 << 10 // bytes of one reply: a name and a description
	maxReplies = 10000
)

// shake is a connection before transmission.
type shake struct {
	nc    net.Conn
	r     *bufio.Reader
	fixed bool // newstyle with options
	zeros bool // EXPORT_NAME is answered with padding
	buf   []byte

	asked bool // for a dialect
	mode  nbd.Mode
}

// connect dials, shakes hands up to where an export is chosen, and leaves the
// rest of the handshake to then. All of it together has one deadline.
func connect(ctx context.Context, u nbd.URI, o Options, then func(h *shake) error) (_ *shake, err error) {
	conf := (*tls.Config)(nil)
	if u.TLS {
		if conf, err = tlsConfig(u, o); err != nil {
			return nil, err
		}
	}
	dctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("%w within %s", ErrTimeout, o.Timeout))
	defer cancel()
	nc, err := o.Dial(dctx, u.Network(), u.Address())
	if err != nil {
		if dctx.Err() != nil {
			err = context.Cause(dctx)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	h := &shake{nc: nc, r: bufio.NewReaderSize(nc, bufferSize)}
	stop := context.AfterFunc(dctx, func() { _ = nc.Close() })
	err = h.greet()
	if err == nil && conf != nil {
		err = h.startTLS(dctx, conf)
	}
	if err == nil {
		err = then(h)
	}
	stop()
	if err != nil || dctx.Err() != nil {
		_ = nc.Close()
		return nil, h.explain(dctx, err)
	}
	return h, nil
}

// explain says what a failed handshake means.
func (h *shake) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the server closed the connection (%w)", io.ErrUnexpectedEOF)
	case errors.Is(err, nbd.ErrFormat):
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return fmt.Errorf("handshake: %w", err)
}

func (h *shake) greet() error {
	b, err := h.read(nbd.GreetingSize)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(b) == nbd.InitMagic && binary.BigEndian.Uint64(b[8:]) == nbd.OldstyleMagic {
		return errors.New("the server speaks the oldstyle protocol, which knows neither export names nor options: " +
			"start it in newstyle (nbdkit without --old, nbd-server with a named export)")
	}
	flags, err := nbd.ParseGreeting(b)
	if err != nil {
		return err
	}
	h.fixed = flags&nbd.FixedNewstyle != 0
	h.zeros = flags&nbd.NoZeroes == 0
	_, err = h.nc.Write(nbd.AppendClientFlags(nil, flags&(nbd.FixedNewstyle|nbd.NoZeroes)))
	return err
}

func (h *shake) startTLS(ctx context.Context, conf *tls.Config) error {
	if !h.fixed {
		return errors.New("the server is too old for TLS")
	}
	if err := h.ask(nbd.OptStartTLS, nil, nil); err != nil {
		if _, ok := errors.AsType[*nbd.OptionError](err); ok {
			return fmt.Errorf("the server offers no TLS, and nbds asks for it: %w", err)
		}
		return err
	}
	if h.r.Buffered() > 0 { // it would be taken for what came through TLS
		return fmt.Errorf("%w: bytes behind the answer to STARTTLS", ErrProtocol)
	}
	t := tls.Client(h.nc, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.nc = t
	h.r.Reset(t)
	return nil
}

// read returns n bytes that are valid until the next call.
func (h *shake) read(n int) ([]byte, error) {
	if cap(h.buf) < n {
		h.buf = make([]byte, max(n, 512))
	}
	b := h.buf[:n]
	_, err := io.ReadFull(h.r, b)
	return b, err
}

// ask sends an option and takes its replies. each sees those before the last
// one; a refusal is an *nbd.OptionError.
func (h *shake) ask(o nbd.Option, data []byte, each func(t nbd.ReplyType, b []byte) error) error {
	if !h.fixed {
		return &nbd.OptionError{Option: o, Type: nbd.RepErrUnsup, Text: "the server knows no options"}
	}
	if _, err := h.nc.Write(nbd.AppendOption(nil, o, data)); err != nil {
		return err
	}
	for range maxReplies {
		b, err := h.read(nbd.OptionReplySize)
		if err != nil {
			return err
		}
		r, err := nbd.ParseOptionReply(b)
		if err != nil {
			return err
		}
		if r.Option != o || r.Length > maxReply {
			return fmt.Errorf("%w: option %s is answered with %d bytes of %s for option %s", ErrProtocol, o, r.Length, r.Type, r.Option)
		}
		if b, err = h.read(int(r.Length)); err != nil {
			return err
		}
		switch {
		case r.Type.IsError():
			text, _ := nbd.ParseString(b[:min(len(b), nbd.MaxString)]) // only words
			return &nbd.OptionError{Option: o, Type: r.Type, Text: text}
		case r.Type == nbd.RepAck:
			return nil
		case each == nil:
			return fmt.Errorf("%w: option %s is answered with %s", ErrProtocol, o, r.Type)
		}
		if err := each(r.Type, b); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d replies to option %s", ErrProtocol, maxReplies, o)
}

// try is ask for what can be done without.
func (h *shake) try(o nbd.Option, data []byte, each func(t nbd.ReplyType, b []byte) error) (ok bool, err error) {
	err = h.ask(o, data, each)
	if refused, is := errors.AsType[*nbd.OptionError](err); is {
		if refused.Type == nbd.RepErrTLSReqd {
			return false, tlsRequired(err)
		}
		return false, nil
	}
	return err == nil, err
}

func tlsRequired(err error) error {
	return fmt.Errorf("the server insists on TLS: use nbds:// (%w)", err)
}

// abort says goodbye.
func (h *shake) abort() {
	_ = h.nc.SetDeadline(time.Now().Add(goodbye))
	if h.fixed {
		_, _ = h.nc.Write(nbd.AppendOption(nil, nbd.OptAbort, nil)) // a courtesy
	}
	_ = h.nc.Close()
}

// session is what a handshake agreed on.
type session struct {
	mode     nbd.Mode
	name     string // canonical, if the server says
	about    string // description
	size     int64
	flags    nbd.ExportFlags
	sizes    nbd.BlockSizes
	contexts []string
	ids      map[uint32]int // of contexts on this connection: index into them
}

// open enters transmission. want has no families.
func (h *shake) open(export string, want []string) (*session, error) {
	mode, err := h.dialectOnce()
	if err != nil {
		return nil, err
	}
	s := &session{mode: mode}
	if s.mode != nbd.Simple && len(want) > 0 {
		if err := h.setContexts(s, export, want); err != nil {
			return nil, err
		}
	}
	err = h.info(s, nbd.OptGo, export)
	if refused, ok := errors.AsType[*nbd.OptionError](err); ok {
		switch refused.Type {
		case nbd.RepErrUnsup:
			err = h.exportName(s, export)
		case nbd.RepErrTLSReqd:
			err = tlsRequired(err)
		case nbd.RepErrUnknown:
			err = fmt.Errorf("the server has no export %q: %w", export, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return s, s.check()
}

// dialectOnce asks for the best replies that the server has.
func (h *shake) dialectOnce() (nbd.Mode, error) {
	if h.asked {
		return h.mode, nil
	}
	h.asked = true
	for _, x := range []struct {
		option nbd.Option
		mode   nbd.Mode
	}{{nbd.OptExtendedHeaders, nbd.Extended}, {nbd.OptStructuredReply, nbd.Structured}} {
		ok, err := h.try(x.option, nil, nil)
		if err != nil {
			return nbd.Simple, err
		}
		if ok {
			h.mode = x.mode
			break
		}
	}
	return h.mode, nil
}

// info is GO or INFO.
func (h *shake) info(s *session, o nbd.Option, export string) error {
	got := false
	s.sizes = nbd.BlockSizes{Minimum: 1, Preferred: nbd.PreferredSize, Maximum: nbd.MaxPayload}
	ask := nbd.InfoRequest{Export: export, Infos: []nbd.InfoType{nbd.InfoName, nbd.InfoDescription, nbd.InfoBlockSize}}
	err := h.ask(o, ask.Append(nil), func(t nbd.ReplyType, b []byte) error {
		if t != nbd.RepInfo {
			return fmt.Errorf("%w: option %s is answered with %s", ErrProtocol, o, t)
		}
		i, err := nbd.ParseInfo(b)
		if err != nil {
			return err
		}
		switch i.Type {
		case nbd.InfoExport:
			got = true
			return s.setSize(i.Size, i.Flags)
		case nbd.InfoName:
			s.name = i.Text
		case nbd.InfoDescription:
			s.about = i.Text
		case nbd.InfoBlockSize:
			s.sizes = i.Sizes
		}
		return nil
	})
	if err == nil && !got {
		err = fmt.Errorf("%w: option %s is answered without size and flags", ErrProtocol, o)
	}
	return err
}

// exportName enters transmission with a server that does not know GO.
func (h *shake) exportName(s *session, export string) error {
	if s.mode == nbd.Extended {
		return fmt.Errorf("%w: it knows extended headers and not GO", ErrProtocol)
	}
	if _, err := h.nc.Write(nbd.AppendOption(nil, nbd.OptExportName, []byte(export))); err != nil {
		return err
	}
	n := nbd.ExportNameReplySize
	if h.zeros {
		n += nbd.ExportNamePadding
	}
	b, err := h.read(n)
	if err != nil {
		return fmt.Errorf("the server does not open export %q, or does not have it: %w", export, err)
	}
	size, flags, err := nbd.ParseExportNameReply(b)
	if err != nil {
		return err
	}
	s.sizes = nbd.BlockSizes{Minimum: 1, Preferred: nbd.PreferredSize, Maximum: nbd.MaxPayload}
	return s.setSize(size, flags)
}

func (s *session) setSize(size uint64, flags nbd.ExportFlags) error {
	if size > math.MaxInt64-nbd.MaxPayload {
		return fmt.Errorf("%w: an export of %d bytes", ErrProtocol, size)
	}
	s.size, s.flags = int64(size), flags
	return nil
}

func (s *session) check() error {
	b := s.sizes
	if b.Minimum == 0 || b.Minimum&(b.Minimum-1) != 0 || b.Minimum > 64<<10 || b.Maximum < b.Minimum {
		return fmt.Errorf("%w: blocks of at least %d and at most %d bytes", ErrProtocol, b.Minimum, b.Maximum)
	}
	return nil
}

// listContexts calls each for the contexts that the server has for an export.
func (h *shake) listContexts(export string, queries []string, each func(name string) error) error {
	ask := nbd.MetaRequest{Export: export, Queries: queries}
	_, err := h.try(nbd.OptListMetaContext, ask.Append(nil), func(t nbd.ReplyType, b []byte) error {
		if t != nbd.RepMetaContext {
			return fmt.Errorf("%w: LIST_META_CONTEXT is answered with %s", ErrProtocol, t)
		}
		c, err := nbd.ParseMetaContext(b)
		if err != nil {
			return err
		}
		return each(c.Name)
	})
	return err
}

// setContexts selects those of want that the server has.
func (h *shake) setContexts(s *session, export string, want []string) error {
	found := map[string]uint32{}
	ids := map[uint32]bool{}
	ask := nbd.MetaRequest{Export: export, Queries: want}
	ok, err := h.try(nbd.OptSetMetaContext, ask.Append(nil), func(t nbd.ReplyType, b []byte) error {
		if t != nbd.RepMetaContext {
			return fmt.Errorf("%w: SET_META_CONTEXT is answered with %s", ErrProtocol, t)
		}
		c, err := nbd.ParseMetaContext(b)
		if err != nil {
			return err
		}
		if _, twice := found[c.Name]; twice || ids[c.ID] || len(found) == len(want) {
			return fmt.Errorf("%w: context %q with number %d, which is one too many", ErrProtocol, c.Name, c.ID)
		}
		found[c.Name], ids[c.ID] = c.ID, true
		return nil
	})
	if err != nil || !ok {
		return err
	}
	s.ids = map[uint32]int{}
	for _, name := range want {
		if id, ok := found[name]; ok {
			s.ids[id] = len(s.contexts)
			s.contexts = append(s.contexts, name)
		}
	}
	if len(s.contexts) != len(found) {
		return fmt.Errorf("%w: it selects contexts that nobody asked for", ErrProtocol)
	}
	return nil
}

// isFamily reports a query that stands for several contexts.
func isFamily(q string) bool { return strings.HasSuffix(q, ":") }
