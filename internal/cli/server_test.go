package cli

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestServerServesUntilItIsInterrupted runs the command as a service manager does.
func TestServerServesUntilItIsInterrupted(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "conf")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	env := System("test")
	env.Stderr = io.Discard
	r, w := io.Pipe()
	env.Stdout = w
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, env, []string{"server", "run", "--config", conf, "--listen", "127.0.0.1:0", "--output-format", "json"})
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Address, Fingerprint string }
	if err := json.Unmarshal([]byte(line), &out); err != nil || len(out.Fingerprint) != 95 {
		t.Fatalf("%q, %v", line, err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + out.Address + "/api2/json/ping")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"pong":true`) {
		t.Errorf("%s, %v", b, err)
	}
	cancel(ErrInterrupted)
	if code := <-done; code != exitOK {
		t.Errorf("exit code %d: an end that was asked for is no failure", code)
	}
	if _, err := client.Get("https://" + out.Address + "/api2/json/ping"); err == nil {
		t.Error("it still serves")
	}
}
