package trust

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/address"
)

func server(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *httptest.Server, c *tls.Config) error {
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), c)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestUntrustedServerShowsItsFingerprint(t *testing.T) {
	s := server(t)
	has := address.FingerprintOf(s.Certificate().Raw)
	for _, pinned := range []address.Fingerprint{{}, address.FingerprintOf([]byte("other"))} {
		err := dial(t, s, Client("127.0.0.1", pinned, nil))
		u, ok := errors.AsType[*UntrustedError](err)
		if !ok || u.Has != has || u.Expected != pinned || !strings.Contains(err.Error(), has.String()) {
			t.Errorf("pinned %s: %v", pinned, err)
		}
	}
}

func TestFingerprintIsEnoughWhateverTheName(t *testing.T) {
	s := server(t)
	if err := dial(t, s, Client("pbs.example.org", address.FingerprintOf(s.Certificate().Raw), nil)); err != nil {
		t.Fatal(err)
	}
}

// A certificate that an authority vouches for does not overrule a fingerprint.
func TestFingerprintIsTheLaw(t *testing.T) {
	s := server(t)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	err := dial(t, s, Client("127.0.0.1", address.FingerprintOf([]byte("other")), roots))
	if _, ok := errors.AsType[*UntrustedError](err); !ok {
		t.Fatalf("err = %v", err)
	}
}

func TestWithoutFingerprintAuthorityAndNameMustFit(t *testing.T) {
	s := server(t)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for host, want := range map[string]bool{"127.0.0.1": true, "example.com": true, "example.org": false} {
		if err := dial(t, s, Client(host, address.Fingerprint{}, roots)); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
}
