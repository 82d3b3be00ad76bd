package nbdserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// pki writes an authority and certificates of a server and a client as libnbd
// and QEMU want them, and returns the server's configuration.
func pki(t *testing.T, dir string) *tls.Config {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	write := func(name, kind string, der []byte) {
		check(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	check(err)
	write("ca-cert.pem", "CERTIFICATE", caDER)
	issue := func(name string, serial int64, use x509.ExtKeyUsage) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		}, ca, &key.PublicKey, caKey)
		check(err)
		pk, err := x509.MarshalPKCS8PrivateKey(key)
		check(err)
		write(name+"-cert.pem", "CERTIFICATE", der)
		write(name+"-key.pem", "PRIVATE KEY", pk)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	server := issue("server", 2, x509.ExtKeyUsageServerAuth)
	issue("client", 3, x509.ExtKeyUsageClientAuth)
	pool := x509.NewCertPool()
	caCert, err := x509.ParseCertificate(caDER)
	check(err)
	pool.AddCert(caCert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
}

// startTCP serves on a port of this machine.
func startTCP(t *testing.T, opts nbdserver.Options) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := nbdserver.New(opts)
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), ln) }() // the context ends before the clean-up
	t.Cleanup(func() { <-done; nothingRuns(t) })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

func TestOthersSpeakTLS(t *testing.T) {
	dir := t.TempDir()
	conf := pki(t, dir)
	d := newDisk(3 << 20)
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, d.b, 0o600); err != nil {
		t.Fatal(err)
	}
	port := startTCP(t, nbdserver.Options{TLS: conf, RequireTLS: true, Exports: one(d)})
	uri := "nbds://localhost:" + port + "/?tls-certificates=" + dir
	if out := tool(t, "nbdinfo", uri); !strings.Contains(out, "with TLS") {
		t.Errorf("nbdinfo: %s", out)
	}
	tool(t, "nbdcopy", uri, raw+".copy")
	if got, err := os.ReadFile(raw + ".copy"); err != nil || !bytes.Equal(got, d.b) {
		t.Errorf("the copy is different, %v", err)
	}
	tool(t, "qemu-img", "compare", "--object", "tls-creds-x509,id=t,endpoint=client,dir="+dir, "--image-opts",
		"driver=nbd,host=localhost,port="+port+",tls-creds=t", "driver=raw,file.driver=file,file.filename="+raw)
	if out, err := tryTool(t, "nbdinfo", "nbd://localhost:"+port); err == nil {
		t.Errorf("without TLS the server answers: %s", out)
	}
	if out, err := tryTool(t, "nbdinfo", "nbds://localhost:"+port+"/?tls-certificates="+t.TempDir()); err == nil {
		t.Errorf("without a certificate the server answers: %s", out)
	}
}

func TestTLSIsRequiredOrOffered(t *testing.T) {
	conf := pki(t, t.TempDir())
	conf.ClientAuth = tls.NoClientCert
	for _, required := range []bool{false, true} {
		name := map[bool]string{false: "offered", true: "required"}[required]
		t.Run(name, func(t *testing.T) {
			d := newDisk(1 << 20)
			_, path := start(t, nbdserver.Options{TLS: conf, RequireTLS: required, Exports: one(d)})
			c := connect(t, path)
			c.greet(nbd.FixedNewstyle)
			want := nbd.RepAck
			if required {
				want = nbd.RepErrTLSReqd
			}
			goTo := nbd.InfoRequest{}.Append(nil)
			for _, o := range []nbd.Option{nbd.OptList, nbd.OptStructuredReply} {
				if got := c.final(o, nil); got != want {
					t.Errorf("%v before TLS: %v, want %v", o, got, want)
				}
			}
			if got := c.final(nbd.OptInfo, goTo); got != want {
				t.Errorf("INFO before TLS: %v, want %v", got, want)
			}
			c.must(nbd.OptStartTLS, nil)
			tc := tls.Client(c.nc, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) //nolint:gosec // this is not what is tested
			c.nc = tc
			if got := c.final(nbd.OptStartTLS, nil); got != nbd.RepErrInvalid {
				t.Errorf("TLS in TLS: %v", got)
			}
			c.must(nbd.OptStructuredReply, nil) // what was agreed on before is forgotten
			c.must(nbd.OptGo, goTo)
			c.mode = nbd.Structured
			if a := c.do(nbd.Request{Type: nbd.CmdRead, Length: 1 << 20}); a.err.Errno != nbd.OK || !bytes.Equal(a.data, d.b) {
				t.Errorf("read: %v", a.err)
			}
			c.send(nbd.Request{Type: nbd.CmdDisc})
			c.gone()
		})
	}
}

func TestPlainTextBehindSTARTTLSIsAnAttack(t *testing.T) {
	_, path := start(t, nbdserver.Options{TLS: pki(t, t.TempDir()), Exports: one(newDisk(1000))})
	c := connect(t, path)
	c.greet(nbd.FixedNewstyle)
	c.write(nbd.AppendOption(nbd.AppendOption(nil, nbd.OptStartTLS, nil), nbd.OptList, nil))
	c.gone()
}

func TestEXPORT_NAMEWithoutRequiredTLSEndsTheConnection(t *testing.T) {
	_, path := start(t, nbdserver.Options{TLS: pki(t, t.TempDir()), RequireTLS: true, Exports: one(newDisk(1000))})
	c := connect(t, path)
	c.greet(nbd.FixedNewstyle)
	c.write(nbd.AppendOption(nil, nbd.OptExportName, nil))
	c.gone()
}
