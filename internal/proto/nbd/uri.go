package nbd

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URI is the address of an export. It is comparable; [ParseURI] and String are
// inverses.
type URI struct {
	TLS    bool   // nbds: the client insists on TLS
	Host   string // name or address; empty for a unix socket
	Port   uint16
	Socket string // path of a unix socket; empty for TCP
	Export string // empty: the default export

	TLSType     string // "", "x509", "anon" or "psk"
	TLSHostname string // name to check the certificate against instead of Host
	TLSDir      string // directory with ca-cert.pem, client-cert.pem, client-key.pem
	NoVerify    bool   // do not check the server's certificate
	User        string // name for TLS-PSK
}

// ParseURI reads an address in one of these forms:
//
//	nbd://HOST[:PORT]/EXPORT          nbds:// is the same with TLS
//	nbd+unix:///EXPORT?socket=PATH    nbds+unix:// is the same with TLS
//	nbd:HOST:PORT[:exportname=EXPORT]         QEMU's old form
//	nbd:unix:PATH[:exportname=EXPORT]         QEMU's old form
//
// with the queries tls-type, tls-hostname, tls-certificates and
// tls-verify-peer. A query it does not know is refused rather than ignored, for
// it may be a misspelled wish for safety.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		return URI{}, fmt.Errorf("nbd address %q: %w", s, err)
	}
	return u, nil
}

func parseURI(s string) (URI, error) {
	if rest, ok := strings.CutPrefix(s, "nbd:"); ok && !strings.HasPrefix(rest, "/") {
		return parseOld(rest)
	}
	p, err := url.Parse(s)
	if err != nil {
		return URI{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if p.Opaque != "" || p.Fragment != "" || strings.Contains(s, "#") {
		return URI{}, fmt.Errorf("%w: want nbd://host/export or nbd+unix:///export?socket=path", ErrFormat)
	}
	var u URI
	unix := false
	switch p.Scheme {
	case "nbd":
	case "nbds":
		u.TLS = true
	case "nbd+unix":
		unix = true
	case "nbds+unix":
		u.TLS, unix = true, true
	default:
		return URI{}, fmt.Errorf("%w: scheme %q; known are nbd, nbds, nbd+unix and nbds+unix", ErrFormat, p.Scheme)
	}
	if p.User != nil {
		if _, ok := p.User.Password(); ok {
			return URI{}, fmt.Errorf("%w: a password has no place in an address", ErrFormat)
		}
		u.User = p.User.Username()
	}
	if err := u.query(p.RawQuery); err != nil {
		return URI{}, err
	}
	switch {
	case unix && u.Socket == "":
		return URI{}, fmt.Errorf("%w: socket=PATH is missing", ErrFormat)
	case !unix && u.Socket != "":
		return URI{}, fmt.Errorf("%w: socket=PATH needs %s+unix", ErrFormat, p.Scheme)
	case unix && p.Host != "":
		return URI{}, fmt.Errorf("%w: a unix socket has no host; for an export name three slashes are needed", ErrFormat)
	case !unix:
		if err := u.setHost(p.Hostname(), p.Port()); err != nil {
			return URI{}, err
		}
	}
	u.Export = strings.TrimPrefix(p.Path, "/")
	return u, u.check()
}

// parseOld reads QEMU's form behind "nbd:".
func parseOld(s string) (URI, error) {
	var u URI
	s, u.Export, _ = strings.Cut(s, ":exportname=")
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if u.Socket = path; path == "" {
			return URI{}, fmt.Errorf("%w: the socket's path is missing", ErrFormat)
		}
		return u, u.check()
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return URI{}, fmt.Errorf("%w: want nbd:host:port", ErrFormat)
	}
	host, port := s[:i], s[i+1:]
	if in, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(in, "]") {
		host = strings.TrimSuffix(in, "]")
	}
	if port == "" {
		return URI{}, fmt.Errorf("%w: want nbd:host:port", ErrFormat)
	}
	if err := u.setHost(host, port); err != nil {
		return URI{}, err
	}
	return u, u.check()
}

func (u *URI) setHost(host, port string) error {
	u.Host, u.Port = host, DefaultPort
	if host == "" {
		u.Host = "localhost"
	}
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%w: port %q", ErrFormat, port)
	}
	u.Port = uint16(n)
	return nil
}

func (u *URI) query(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for k, v := range values {
		if len(v) != 1 {
			return fmt.Errorf("%w: %s is given %d times", ErrFormat, k, len(v))
		}
		switch k {
		case "socket":
			u.Socket = v[0]
		case "tls-type":
			u.TLSType = v[0]
		case "tls-hostname":
			u.TLSHostname = v[0]
		case "tls-certificates":
			u.TLSDir = v[0]
		case "tls-verify-peer":
			switch v[0] {
			case "0", "false":
				u.NoVerify = true
			case "1", "true":
			default:
				return fmt.Errorf("%w: tls-verify-peer=%s, want 0 or 1", ErrFormat, v[0])
			}
		default:
			return fmt.Errorf("%w: unknown query %q; known are socket, tls-type, tls-hostname, tls-certificates "+
				"and tls-verify-peer", ErrFormat, k)
		}
	}
	return nil
}

// check holds what must be true of every address, however it was written.
func (u *URI) check() error {
	if _, err := ParseString([]byte(u.Export)); err != nil {
		return fmt.Errorf("export name: %w", err)
	}
	for _, s := range []string{u.Socket, u.TLSHostname, u.TLSDir, u.User} {
		if _, err := ParseString([]byte(s)); err != nil {
			return err
		}
	}
	switch u.TLSType {
	case "", "x509", "anon", "psk":
	default:
		return fmt.Errorf("%w: tls-type=%s, want x509, anon or psk", ErrFormat, u.TLSType)
	}
	if u.Socket != "" {
		return nil
	}
	if strings.Contains(u.Host, ":") {
		if _, err := netip.ParseAddr(u.Host); err != nil {
			return fmt.Errorf("%w: host: %w", ErrFormat, err)
		}
	}
	for _, c := range u.Host {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`/?#@[]<>"\^{|}`+"`", c) || c == '%' && !strings.Contains(u.Host, ":") {
			return fmt.Errorf("%w: host %q", ErrFormat, u.Host)
		}
	}
	return nil
}

// Network is "unix" or "tcp", as net.Dial wants it.
func (u URI) Network() string {
	if u.Socket != "" {
		return "unix"
	}
	return "tcp"
}

// Address is the socket's path or host:port, as net.Dial wants it.
func (u URI) Address() string {
	if u.Socket != "" {
		return u.Socket
	}
	host := u.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(u.Port))
}

// String is the address in its URI form.
func (u URI) String() string {
	p := url.URL{Scheme: "nbd", Path: "/" + u.Export}
	if u.TLS {
		p.Scheme = "nbds"
	}
	if u.User != "" {
		p.User = url.User(u.User)
	}
	q := url.Values{}
	if u.Socket != "" {
		p.Scheme += "+unix"
		q.Set("socket", u.Socket)
	} else {
		p.Host = u.Host
		if strings.Contains(u.Host, ":") {
			p.Host = "[" + u.Host + "]"
		}
		if u.Port != DefaultPort {
			p.Host += ":" + strconv.Itoa(int(u.Port))
		}
	}
	for k, v := range map[string]string{"tls-type": u.TLSType, "tls-hostname": u.TLSHostname, "tls-certificates": u.TLSDir} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if u.NoVerify {
		q.Set("tls-verify-peer", "0")
	}
	p.RawQuery = strings.ReplaceAll(strings.ReplaceAll(q.Encode(), "%2F", "/"), "+", "%20")
	return p.String()
}
