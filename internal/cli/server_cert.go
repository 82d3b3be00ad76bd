package cli

import (
	"crypto/x509"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/server/cert"
	"github.com/spf13/cobra"
)

func newServerCertCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Show and renew the certificate",
		Long: `The certificate is proxy.pem in the configuration, its key proxy.key. One that is
signed by itself is made at the first start, and clients are told its
fingerprint. To have another one, of an authority, put it into these files: a
server that runs takes it within a second.`,
		Example: `  holdfast server cert show --config /etc/holdfast/server
  holdfast server cert renew --config /etc/holdfast/server`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "show",
		Short:             "Show the certificate and its fingerprint",
		Long:              `Shows whose certificate it is, how long it is good, and its fingerprint.`,
		Example:           `  holdfast server cert show`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerCertShow(a, o) },
	}, &cobra.Command{
		Use:   "renew",
		Short: "Make another certificate",
		Long: `Makes another key and a certificate that is signed by itself. The fingerprint is
another one then, and clients that know the old one refuse the server until they
are told.`,
		Example:           `  holdfast server cert renew`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			d, err := o.existing(a)
			if err != nil {
				return err
			}
			if err := cert.Renew(d); err != nil {
				return err
			}
			return runServerCertShow(a, o)
		},
	})
	return cmd
}

func runServerCertShow(a *app, o *serverOptions) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	c, err := cert.Read(d)
	if err != nil {
		return err
	}
	type shown struct {
		Subject     string   `json:"subject"`
		Issuer      string   `json:"issuer"`
		SAN         []string `json:"san"`
		NotBefore   int64    `json:"notbefore"`
		NotAfter    int64    `json:"notafter"`
		Fingerprint string   `json:"fingerprint"`
	}
	out := shown{c.Subject.String(), c.Issuer.String(), sans(c), c.NotBefore.Unix(), c.NotAfter.Unix(), address.FingerprintOf(c.Raw).String()}
	return a.print(out, func() error {
		return a.printf("subject:     %s\nissuer:      %s\nnames:       %s\nnot before:  %s\nnot after:   %s\nfingerprint: %s\n",
			out.Subject, out.Issuer, join(out.SAN), c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), out.Fingerprint)
	})
}

// sans lists the names and addresses that a certificate is for.
func sans(c *x509.Certificate) []string {
	list := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}
