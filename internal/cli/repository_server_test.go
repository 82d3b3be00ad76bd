package cli

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// nobody is a person who is not asked for passwords here.
type nobody struct{ t *testing.T }

func (n nobody) Ask(prompt string) (secret.Secret, error) {
	n.t.Errorf("asked for %q", prompt)
	return secret.Secret{}, nil
}

func TestUnknownCertificateIsShownAndRemembered(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := `{"data":[]}`
		if strings.HasSuffix(r.URL.Path, "/ticket") {
			answer = `{"data":{"username":"root@pam","ticket":"PBS:x","CSRFPreventionToken":"x"}}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	fingerprint := address.FingerprintOf(s.Certificate().Raw).String()
	home := t.TempDir()
	file := filepath.Join(home, ".config", "holdfast", "fingerprints")
	run := func(answer string, asker secret.Asker) (int, string) {
		e := testEnv(t)
		var stderr bytes.Buffer
		e.Stdin, e.Stderr, e.Asker = strings.NewReader(answer), &stderr, asker
		e.LookupEnv = func(name string) (string, bool) {
			v, ok := map[string]string{"HOME": home, "PBS_PASSWORD": "x"}[name]
			return v, ok
		}
		code := Main(context.Background(), e, []string{"list", "--repository", s.Listener.Addr().String() + ":tank"})
		return code, stderr.String()
	}
	if code, said := run("", nil); code != exitRefused || strings.Contains(said, "y/n") || !strings.Contains(said, fingerprint) {
		t.Errorf("nobody to ask: %d %s", code, said)
	}
	if code, said := run("no\n", nobody{t}); code != exitRefused || !strings.Contains(said, "fingerprint: "+fingerprint) || !strings.Contains(said, "y/n") {
		t.Errorf("refused: %d %s", code, said)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a refused certificate was remembered: %v", err)
	}
	if code, said := run("yes\nmore input", nobody{t}); code != exitOK {
		t.Errorf("accepted: %d %s", code, said)
	}
	b, err := os.ReadFile(file)
	if want := s.Listener.Addr().String() + " " + fingerprint + "\n"; err != nil || string(b) != want {
		t.Errorf("remembered is %q, %v, want %q", b, err, want)
	}
	if code, said := run("", nobody{t}); code != exitOK || strings.Contains(said, "y/n") {
		t.Errorf("the second time: %d %s", code, said)
	}
}
