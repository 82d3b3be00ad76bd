package notify_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/notify"
)

// post is a mail server that takes one mail at a time.
type post struct {
	cert   tls.Certificate
	tls    *tls.Config // of clients
	secure bool        // from the first byte
	auth   string      // what it offers
	refuse string      // the command that it refuses

	mu   sync.Mutex
	said []string // by clients
	mail string
}

func newPost(t *testing.T) *post {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.StartTLS() // for its certificate
	defer s.Close()
	return &post{cert: s.TLS.Certificates[0], tls: s.Client().Transport.(*http.Transport).TLSClientConfig, auth: "PLAIN LOGIN"}
}

// serve answers until the test ends, and returns the port.
func (p *post) serve(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if p.secure {
				c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{p.cert}})
			}
			p.talk(c)
		}
	})
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (p *post) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	read := func() string {
		line, err := r.ReadString('\n')
		if err != nil {
			return "QUIT"
		}
		return strings.TrimRight(line, "\r\n")
	}
	say("220 post ready")
	for {
		line := read()
		word, rest, _ := strings.Cut(line, " ")
		p.mu.Lock()
		p.said = append(p.said, line)
		p.mu.Unlock()
		if p.refuse != "" && strings.HasPrefix(line, p.refuse) {
			say("550 no such user here")
			continue
		}
		switch word {
		case "EHLO":
			say("250-post\r\n250-STARTTLS\r\n250 AUTH %s", p.auth)
		case "STARTTLS":
			say("220 go on")
			c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{p.cert}})
			r = bufio.NewReader(c)
		case "AUTH":
			if strings.HasPrefix(rest, "LOGIN") {
				say("334 %s", base64.StdEncoding.EncodeToString([]byte("Username:")))
				user := read()
				say("334 %s", base64.StdEncoding.EncodeToString([]byte("Password:")))
				pass := read()
				p.mu.Lock()
				p.said = append(p.said, user+" "+pass)
				p.mu.Unlock()
			}
			say("235 welcome")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				line := read()
				if line == "." {
					break
				}
				b.WriteString(strings.TrimPrefix(line, ".") + "\n")
			}
			p.mu.Lock()
			p.mail = b.String()
			p.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 well")
		}
	}
}

func smtp(port, more string) string {
	return "smtp: x\n\tauthor The Keeper\n\tfrom-address keeper@example.org\n\tmailto b@example.org\n" + more + "\tport " + port + "\n\tserver 127.0.0.1\n\nmatcher: m\n\ttarget x\n"
}

func TestAMailServerGetsTheMail(t *testing.T) {
	for _, tc := range []struct {
		name, more string
		set        func(*post)
		says       string
	}{
		{"unencrypted", "\tmode insecure\n", func(*post) {}, ""},
		{"later encrypted", "\tmode starttls\n\tusername me\n", func(*post) {}, "AUTH PLAIN " + b64("\x00me\x00secret")},
		{"encrypted", "\tmode tls\n\tusername me\n", func(p *post) { p.secure = true }, "AUTH PLAIN " + b64("\x00me\x00secret")},
		{"encrypted without saying so", "", func(p *post) { p.secure = true }, ""},
		{"with an older login", "\tusername me\n", func(p *post) { p.secure, p.auth = true, "LOGIN" }, b64("me") + " " + b64("secret")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPost(t)
			tc.set(p)
			o := options(t, t.Output())
			o.Dial.TLS = p.tls
			c := load(t, conf(t, smtp(p.serve(t), tc.more), "smtp: x\n\tpassword secret\n"), o)
			if err := c.Send(t.Context(), message(notify.Error)); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			wantMail(t, p.mail, `"The Keeper" <keeper@example.org>`, "b@example.org")
			if all := strings.Join(p.said, "\n"); !strings.Contains(all, tc.says) || !strings.Contains(all, "MAIL FROM:<keeper@example.org>") || !strings.Contains(all, "RCPT TO:<b@example.org>") {
				t.Errorf("%s", all)
			}
		})
	}
}

func TestAMailServerThatRefusesIsTold(t *testing.T) {
	for _, tc := range []struct {
		name, more, refuse string
		trust              bool
		want               string
	}{
		{"recipient", "\tmode insecure\n", "RCPT", true, "no such user here"},
		{"login", "\tmode starttls\n\tusername me\n", "AUTH", true, "log in as me"},
		{"encryption", "\tmode starttls\n", "STARTTLS", true, "550"},
		{"certificate", "\tmode starttls\n", "", false, "certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPost(t)
			p.refuse = tc.refuse
			o := options(t, t.Output())
			if tc.trust {
				o.Dial.TLS = p.tls
			}
			c := load(t, conf(t, smtp(p.serve(t), tc.more), "smtp: x\n\tpassword secret\n"), o)
			err := c.Send(t.Context(), message(notify.Error))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v", err)
			}
			if p.mail != "" {
				t.Error("it was sent")
			}
		})
	}
}
