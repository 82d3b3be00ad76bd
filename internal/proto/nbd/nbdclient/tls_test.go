package nbdclient

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// authority makes a directory as nbdkit, qemu-nbd and libnbd want it.
func authority(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if name == "ca" {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
			ca, caKey = c, key
		}
		if name == "server" {
			c.DNSNames = []string{host}
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		if name == "client" {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		k, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{"-cert.pem": {Type: "CERTIFICATE", Bytes: der}, "-key.pem": {Type: "PRIVATE KEY", Bytes: k}} {
			if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestTLSChecksTheServerAndShowsTheClient(t *testing.T) {
	dir := authority(t, "disks.example")
	for name, start := range map[string]func(*testing.T, string){
		"nbdkit": func(t *testing.T, socket string) {
			daemon(t, socket, "nbdkit", "-f", "-U", socket, "--tls=require", "--tls-certificates="+dir, "--tls-verify-peer", "pattern", "3M")
		},
		"qemu-nbd": func(t *testing.T, socket string) {
			requireTools(t, "qemu-nbd")
			raw := filepath.Join(t.TempDir(), "raw")
			if err := os.WriteFile(raw, pattern(0, 3<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			daemon(t, socket, "qemu-nbd", "-t", "-r", "--shared=0", "-f", "raw", "-k", socket,
				"--object", "tls-creds-x509,id=tls0,endpoint=server,verify-peer=yes,dir="+dir, "--tls-creds", "tls0", raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			socket := socketPath(t)
			start(t, socket)
			alien := authority(t, "disks.example")
			for _, tc := range []struct {
				name  string
				uri   string
				words string
			}{
				{"authority", "nbds+unix:///?socket=%s&tls-certificates=DIR", ""},
				{"authority and name", "nbds+unix:///?socket=%s&tls-certificates=DIR&tls-hostname=disks.example", ""},
				{"unchecked", "nbds+unix:///?socket=%s&tls-certificates=DIR&tls-verify-peer=0", ""},
				{"wrong name", "nbds+unix:///?socket=%s&tls-certificates=DIR&tls-hostname=other.example", "not other.example"},
				{"wrong authority", "nbds+unix:///?socket=%s&tls-certificates=ALIEN", "unknown authority"},
				{"no authority", "nbds+unix:///?socket=%s", "cannot be checked"},
				{"plain", "nbd+unix:///?socket=%s", "insists on TLS"},
				{"keys", "nbds+unix:///?socket=%s&tls-type=psk", "not supported"},
			} {
				t.Run(tc.name, func(t *testing.T) {
					s := strings.ReplaceAll(strings.ReplaceAll(fmt.Sprintf(tc.uri, socket), "DIR", dir), "ALIEN", alien)
					u, err := nbd.ParseURI(s)
					if err != nil {
						t.Fatal(err)
					}
					im, err := Open(t.Context(), u, Options{Timeout: 20 * time.Second})
					if tc.words != "" {
						if err == nil || !strings.Contains(err.Error(), tc.words) {
							t.Fatalf("err = %v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = im.Close() }()
					got := make([]byte, 3<<20)
					if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, pattern(0, len(got))) {
						t.Fatalf("%v", err)
					}
				})
			}
		})
	}
}

func TestServerWithoutTLSIsRefusedBeforeAnythingIsSaid(t *testing.T) {
	u := kit(t, "--tls=off", "memory", "1M")
	u.TLS, u.NoVerify = true, true
	if _, err := Open(t.Context(), u, Options{}); err == nil || !strings.Contains(err.Error(), "no TLS") {
		t.Fatalf("err = %v", err)
	}
}

func TestBytesBehindTheAnswerToSTARTTLSAreRefused(t *testing.T) {
	dial := pipeDial(func(nc net.Conn) {
		_, _ = nc.Write(nbd.AppendGreeting(nil, nbd.FixedNewstyle|nbd.NoZeroes))
		b := make([]byte, nbd.ClientFlagsSize+nbd.OptionHeaderSize)
		_, _ = nc.Read(b[:4])
		_, _ = nc.Read(b)
		_, _ = nc.Write(append(nbd.AppendOptionReply(nil, nbd.OptStartTLS, nbd.RepAck, nil), "planted"...))
		_, _ = nc.Read(b)
	})
	u := nbd.URI{Host: "x", Port: 1, TLS: true, NoVerify: true}
	if _, err := Open(t.Context(), u, Options{Dial: dial}); err == nil || !strings.Contains(err.Error(), "behind the answer") {
		t.Fatalf("err = %v", err)
	}
}
