package nbdclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// The files of a certificate directory, named as libnbd and nbdkit name them.
const (
	caFile   = "ca-cert.pem"
	certFile = "client-cert.pem"
	keyFile  = "client-key.pem"
)

// tlsConfig is what the URI and the options ask for.
//
// The server's certificate is checked against ca-cert.pem of the directory or,
// without a directory, against the authorities that the system trusts; and
// against the host's name. A unix socket has no name: then tls-hostname is
// needed, or an authority of one's own, every certificate of which will do.
func tlsConfig(u nbd.URI, o Options) (*tls.Config, error) {
	if u.TLSType == "anon" || u.TLSType == "psk" {
		return nil, fmt.Errorf("tls-type=%s is not supported: use x509 certificates (tls-certificates=DIRECTORY)", u.TLSType)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.TLSHostname, InsecureSkipVerify: u.NoVerify}
	if c.ServerName == "" {
		c.ServerName = u.Host
	}
	dir := o.Certificates
	if dir == "" {
		dir = u.TLSDir
	}
	if dir != "" {
		if err := addCertificates(c, dir); err != nil {
			return nil, err
		}
	}
	if c.ServerName != "" || u.NoVerify {
		return c, nil
	}
	if c.RootCAs == nil {
		return nil, errors.New("the server's certificate cannot be checked: a unix socket has no host name; " +
			"add tls-hostname=NAME, or tls-certificates=DIRECTORY with the authority's " + caFile)
	}
	c.InsecureSkipVerify = true // the chain is checked below, without a name
	c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	return c, nil
}

func addCertificates(c *tls.Config, dir string) error {
	switch ca, err := os.ReadFile(filepath.Join(dir, caFile)); {
	case err == nil:
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return fmt.Errorf("%s holds no certificate", filepath.Join(dir, caFile))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("certificate of the authority: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	switch {
	case err == nil:
		c.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("client certificate in %s: %w", dir, err)
	case c.RootCAs == nil:
		return fmt.Errorf("%s holds neither %s nor %s with %s", dir, caFile, certFile, keyFile)
	}
	return nil
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(opts)
	return err
}
