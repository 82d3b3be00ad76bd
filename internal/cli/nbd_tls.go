package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// The files of a directory of certificates, as libnbd, nbdkit and QEMU call
// them.
const (
	caFile         = "ca-cert.pem"
	serverCertFile = "server-cert.pem"
	serverKeyFile  = "server-key.pem"
)

// secure reads the certificates, if there are to be any.
func (o nbdServeOptions) secure(opts *nbdserver.Options) error {
	if o.certificates == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(o.certificates, serverCertFile), filepath.Join(o.certificates, serverKeyFile))
	if err != nil {
		return hint(fmt.Errorf("--tls-certificates: %w", pathError(err)), "the directory holds %s and %s in PEM form", serverCertFile, serverKeyFile)
	}
	opts.RequireTLS = true
	opts.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if !o.verifyClients {
		return nil
	}
	path := filepath.Join(o.certificates, caFile)
	text, err := readSmall(path, 1<<20)
	if err != nil {
		return fmt.Errorf("--tls-certificates: %w", err)
	}
	opts.TLS.ClientCAs = x509.NewCertPool()
	if !opts.TLS.ClientCAs.AppendCertsFromPEM(text) {
		return errors.New("--tls-certificates: " + path + " holds no certificate in PEM form")
	}
	opts.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	return nil
}
