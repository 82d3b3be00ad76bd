// Package trust decides whether a server is the one that is meant, by its TLS
// certificate.
//
// A fingerprint, if there is one, is the law: the server's certificate must have
// exactly that SHA-256, and then neither its name, its dates nor who signed it
// matter. Without one the usual rules hold: an authority that this system
// trusts has signed it for the host's name.
//
// A server whose certificate passes neither is an [*UntrustedError], which
// carries the fingerprint that it has, so that a person can compare it with
// what the server's administrator sees.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/address"
)

// UntrustedError reports a server that may be anybody.
type UntrustedError struct {
	Host     string
	Has      address.Fingerprint
	Expected address.Fingerprint // zero: none was
	Err      error               // why the usual rules do not let it pass; nil when Expected is set
}

func (e *UntrustedError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("the certificate of %s has fingerprint %s, expected is %s: someone may stand between, or the certificate was replaced",
			e.Host, e.Has, e.Expected)
	}
	return fmt.Sprintf("the certificate of %s is not trusted (its fingerprint is %s): %v", e.Host, e.Has, e.Err)
}

func (e *UntrustedError) Unwrap() error { return e.Err }

// Client returns the TLS configuration of a client of host. roots nil means the
// authorities of the system; fingerprint zero means none.
func Client(host string, fingerprint address.Fingerprint, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true, // VerifyConnection does it, and keeps the fingerprint
		VerifyConnection: func(s tls.ConnectionState) error {
			return check(s, host, fingerprint, roots)
		},
	}
}

func check(s tls.ConnectionState, host string, fingerprint address.Fingerprint, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	leaf := s.PeerCertificates[0]
	has := address.FingerprintOf(leaf.Raw)
	if !fingerprint.IsZero() {
		if has != fingerprint {
			return &UntrustedError{Host: host, Has: has, Expected: fingerprint}
		}
		return nil
	}
	opts := x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return &UntrustedError{Host: host, Has: has, Err: err}
	}
	return nil
}
