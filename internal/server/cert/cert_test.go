package cert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
)

func open(t *testing.T, conf confdir.Dir) *Certificate {
	t.Helper()
	c, err := Open(conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACertificateIsMadeOnceAndServesTLS(t *testing.T) {
	dir := t.TempDir()
	conf := confdir.New(dir)
	c := open(t, conf)
	if again := open(t, conf); again.Fingerprint() != c.Fingerprint() {
		t.Error("the second start made another certificate")
	}
	leaf, err := Read(conf)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", c.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p != "" {
		t.Errorf("negotiated %q: a client on h2 could not upgrade", p)
	}
	for name, mode := range map[string]os.FileMode{"proxy.pem": 0o640, "proxy.key": 0o640} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestARenewedCertificateIsTakenAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	conf := confdir.New(dir)
	c := open(t, conf)
	now := time.Now()
	c.now = func() time.Time { return now }
	first := c.Fingerprint()
	if err := Renew(conf); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * look)
	second := c.Fingerprint()
	if second == first {
		t.Fatal("the renewed certificate was not taken")
	}
	pem, err := os.ReadFile(filepath.Join(dir, "proxy.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("nonsense"), bytes.Replace(pem, []byte("CERT"), []byte("TREC"), 1)} {
		if err := os.WriteFile(filepath.Join(dir, "proxy.pem"), bad, 0o640); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * look)
		if c.Fingerprint() != second {
			t.Errorf("%.20q took the place of the certificate", bad)
		}
	}
}

func TestAKeyThatLostItsCertificateGetsAnother(t *testing.T) {
	dir := t.TempDir()
	conf := confdir.New(dir)
	open(t, conf)
	key, err := os.ReadFile(filepath.Join(dir, "proxy.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "proxy.pem")); err != nil {
		t.Fatal(err)
	}
	open(t, conf)
	if now, err := os.ReadFile(filepath.Join(dir, "proxy.key")); err != nil || !bytes.Equal(now, key) {
		t.Errorf("the key was replaced: %v", err)
	}
}
