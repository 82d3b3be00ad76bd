package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// Dialer is how servers are reached; the zero value is right for use.
type Dialer struct {
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config
}

// smtpTarget gives mails to a server.
type smtpTarget struct {
	letter
	server, port string
	mode         string
	user         string
	password     string
}

// smtpPorts are those of the modes.
var smtpPorts = map[string]string{"insecure": "25", "starttls": "587", "tls": "465"}

func newSMTP(sec, secrets *sectionconfig.Section, o Options) (Target, error) {
	l, err := newLetter(sec, o)
	if err != nil {
		return nil, err
	}
	t := smtpTarget{letter: l, mode: "tls"}
	if mode, ok := sec.Get("mode"); ok {
		t.mode = mode
	}
	port, ok := smtpPorts[t.mode]
	if !ok {
		return nil, fmt.Errorf("mode %q: want insecure, starttls or tls", t.mode)
	}
	t.port = port
	if text, ok := sec.Get("port"); ok {
		if _, err := strconv.ParseUint(text, 10, 16); err != nil {
			return nil, fmt.Errorf("port %q is none", text)
		}
		t.port = text
	}
	if t.server, ok = sec.Get("server"); !ok || t.server == "" {
		return nil, errors.New("server is missing")
	}
	t.user, _ = sec.Get("username")
	t.password, _ = secrets.Get("password")
	return t, nil
}

func (t smtpTarget) Send(ctx context.Context, m Message) error {
	to, err := t.recipients()
	if err != nil {
		return err
	}
	text, err := t.write(m, to)
	if err != nil {
		return err
	}
	if err := t.deliver(ctx, to, text); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("mail server %s: %w", net.JoinHostPort(t.server, t.port), err)
	}
	return nil
}

func (t smtpTarget) deliver(ctx context.Context, to []string, text []byte) error {
	dial := t.opt.Dial.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(t.server, t.port))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conf := &tls.Config{}
	if t.opt.Dial.TLS != nil {
		conf = t.opt.Dial.TLS.Clone()
	}
	conf.ServerName = t.server
	if t.mode == "tls" {
		conn = tls.Client(conn, conf)
	}
	c, err := smtp.NewClient(conn, t.server)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer func() { _ = c.Close() }()
	if err := c.Hello(t.opt.Hostname); err != nil {
		return err
	}
	if t.mode == "starttls" {
		if err := c.StartTLS(conf); err != nil {
			return err
		}
	}
	if t.user != "" {
		if err := c.Auth(t.auth(c)); err != nil {
			return fmt.Errorf("log in as %s: %w", t.user, err)
		}
	}
	if err := c.Mail(t.from.Address); err != nil {
		return err
	}
	for _, a := range to {
		if err := c.Rcpt(a); err != nil {
			return fmt.Errorf("recipient %s: %w", a, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // it has been accepted
	return nil
}

// auth is PLAIN where the server has it, else LOGIN.
func (t smtpTarget) auth(c *smtp.Client) smtp.Auth {
	_, how := c.Extension("AUTH")
	if how != "" && !strings.Contains(how, "PLAIN") && strings.Contains(how, "LOGIN") {
		return login{t.user, t.password}
	}
	return smtp.PlainAuth("", t.user, t.password, t.server)
}

// login is an older way to log in, which some servers have alone.
type login struct{ user, password string }

func (l login) Start(s *smtp.ServerInfo) (string, []byte, error) {
	if !s.TLS && s.Name != "localhost" && s.Name != "127.0.0.1" && s.Name != "::1" {
		return "", nil, errors.New("unencrypted connection")
	}
	return "LOGIN", nil, nil
}

func (l login) Next(ask []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case strings.HasPrefix(strings.ToLower(string(ask)), "username"):
		return []byte(l.user), nil
	case strings.HasPrefix(strings.ToLower(string(ask)), "password"):
		return []byte(l.password), nil
	}
	return nil, errors.New("the server asks for something unknown")
}
