// Package cert is the certificate by which clients recognise a server: proxy.pem
// and proxy.key, as PBS has them.
//
// One that is missing is made: signed by itself, for the names and addresses by
// which the machine knows itself, with a key on the curve P-256, and good for ten
// years. Clients are told its fingerprint, which is the SHA-256 of the certificate.
// Another one, of an authority, can be put in its place; the server takes it as
// soon as certificate and key fit together.
package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
)

const (
	good = 10 * 365 * 24 * time.Hour // how long one is
	look = time.Second               // how often the files are looked at
)

// Certificate is that of a server, read anew when its files change. It is safe for
// concurrent use.
type Certificate struct {
	conf confdir.Dir
	log  *slog.Logger
	now  func() time.Time

	mu        sync.Mutex
	pair      *tls.Certificate
	cert, key confdir.Stamp
	looked    time.Time
}

// Open reads the certificate, and makes it if there is none.
func Open(conf confdir.Dir, log *slog.Logger) (*Certificate, error) {
	if err := makeMissing(conf, time.Now()); err != nil {
		return nil, err
	}
	c := &Certificate{conf: conf, log: log, now: time.Now}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// load reads both files. c.mu is held, or nobody else has c.
func (c *Certificate) load() error {
	cert, err1 := c.conf.Stamp(confdir.Certificate)
	key, err2 := c.conf.Stamp(confdir.CertKey)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	pair, err := read(c.conf)
	if err != nil {
		return err
	}
	c.pair, c.cert, c.key, c.looked = pair, cert, key, c.now()
	return nil
}

func read(conf confdir.Dir) (*tls.Certificate, error) {
	cert, err1 := conf.Load(confdir.Certificate)
	key, err2 := conf.Load(confdir.CertKey)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", confdir.Certificate.Name, confdir.CertKey.Name, err)
	}
	if pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	return &pair, err
}

// current returns the certificate that counts now. One that cannot be read does not
// take the place of the one in use.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.looked) < look && !now.Before(c.looked) {
		return c.pair
	}
	c.looked = now
	cert, err1 := c.conf.Stamp(confdir.Certificate)
	key, err2 := c.conf.Stamp(confdir.CertKey)
	if err1 != nil || err2 != nil || cert.Same(c.cert) && key.Same(c.key) {
		return c.pair
	}
	if err := c.load(); err != nil {
		c.log.Warn("the new certificate is not taken", "error", err)
		return c.pair
	}
	c.log.Info("new certificate", "fingerprint", address.FingerprintOf(c.pair.Certificate[0]).String())
	return c.pair
}

// TLS is the configuration of a server with this certificate. As PBS it negotiates
// no protocol: all begins with HTTP/1.1, and clients that offer something else are
// not sent away.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// Fingerprint is that of the certificate in use.
func (c *Certificate) Fingerprint() string {
	return address.FingerprintOf(c.current().Certificate[0]).String()
}

// Read returns the certificate of a configuration.
func Read(conf confdir.Dir) (*x509.Certificate, error) {
	pair, err := read(conf)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// Renew makes another certificate with another key. A server that runs takes it at
// once; clients that know the fingerprint have to be told the new one.
func Renew(conf confdir.Dir) error {
	key, keyText, err := newKey()
	if err != nil {
		return err
	}
	certText, err := sign(key, time.Now())
	if err != nil {
		return err
	}
	// In between they do not fit together, and the server keeps what it has.
	if err := conf.Replace(confdir.CertKey, keyText); err != nil {
		return err
	}
	return conf.Replace(confdir.Certificate, certText)
}

// Install gives a configuration a certificate of somebody else, with those above it.
// Without a key it has to be for the key that is there.
func Install(conf confdir.Dir, chain, key []byte) error {
	if key == nil {
		var err error
		if key, err = conf.Load(confdir.CertKey); err != nil {
			return err
		}
	}
	if _, err := tls.X509KeyPair(chain, key); err != nil {
		return fmt.Errorf("certificate and key: %w", err)
	}
	// In between they do not fit together, and the server keeps what it has.
	if err := conf.Replace(confdir.CertKey, key); err != nil {
		return err
	}
	return conf.Replace(confdir.Certificate, chain)
}

// makeMissing makes the key and the certificate that are not there.
func makeMissing(conf confdir.Dir, now time.Time) error {
	cert, err := conf.Load(confdir.Certificate)
	if err != nil || cert != nil {
		return err
	}
	_, text, err := newKey()
	if err != nil {
		return err
	}
	if _, err := conf.Create(confdir.CertKey, text); err != nil {
		return err
	}
	// It may be another one, that was there or was made at the same time.
	if text, err = conf.Load(confdir.CertKey); err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no key", confdir.CertKey.Name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return fmt.Errorf("%s is there without %s, and holds no key that a certificate can be made for here", confdir.CertKey.Name, confdir.Certificate.Name)
	}
	if text, err = sign(key, now); err != nil {
		return err
	}
	_, err = conf.Create(confdir.Certificate, text)
	return err
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// sign makes a certificate for a key, by that key.
func sign(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	short, _, _ := strings.Cut(host, ".")
	c := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: cut(host), Organization: []string{"Holdfast backup server"}},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(good),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{host, "localhost"},
		IPAddresses:           addresses(),
	}
	if short != host && short != "" {
		c.DNSNames = append(c.DNSNames, short)
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &key.PublicKey, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// cut shortens a name to what a certificate takes.
func cut(s string) string { return s[:min(len(s), 64)] }

// addresses are those of this machine; without them, loopback alone.
func addresses() []net.IP {
	list := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return list
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP)
		}
	}
	return list
}
