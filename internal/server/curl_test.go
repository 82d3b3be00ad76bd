package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// curl runs curl against the server and returns what it prints: the body, a
// line end, and the status with the version of HTTP.
func (s *site) curl(args ...string) string {
	s.t.Helper()
	base := []string{"-sk", "--max-time", "60", "-w", "\n%{http_code} HTTP/%{http_version}"}
	for i, a := range args {
		args[i] = strings.Replace(a, "URL", "https://"+s.addr+"/api2/json", 1)
	}
	cmd := exec.CommandContext(s.t.Context(), "curl", append(base, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir) // nobody's .curlrc
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("curl %q: %v", args, err)
	}
	return string(out)
}

func TestCurlIsAClient(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	s := newSite(t)
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	key := s.addToken("admin@pbs!nas")
	s.grant("/datastore/tank", "admin@pbs!nas", "DatastoreAudit")
	s.start()
	want := func(got, body, status string) {
		t.Helper()
		text, line, _ := strings.Cut(got, "\n")
		if !strings.Contains(text, body) || line != status {
			t.Errorf("%q, want %q and %q", got, body, status)
		}
	}

	var in struct {
		Data struct{ Ticket, CSRFPreventionToken string }
	}
	got := s.curl("-d", "username=admin@pbs", "--data-urlencode", "password="+password, "URL/access/ticket")
	text, _, _ := strings.Cut(got, "\n")
	reply{t: t, name: "login", Status: 200, Body: text}.json(&in)
	ticket, csrf := "PBSAuthCookie="+in.Data.Ticket, "CSRFPreventionToken: "+in.Data.CSRFPreventionToken

	for _, how := range [][]string{{}, {"--http2"}, {"--http1.1"}, {"--compressed"}, {"--tlsv1.3"}, {"--tls-max", "1.2"}} {
		want(s.curl(append(how, "-b", ticket, "URL/version")...), `"version":"4.2"`, "200 HTTP/1.1")
	}
	want(s.curl("--http1.0", "-b", ticket, "URL/version"), `"version":"4.2"`, "200 HTTP/1")
	want(s.curl("-X", "POST", "-b", ticket, "URL/admin/datastore/tank/prune?backup-type=vm&backup-id=100&dry-run=1"), "authentication failed", "401 HTTP/1.1")
	want(s.curl("-b", ticket, "-H", csrf, "-d", "backup-type=vm&backup-id=100&dry-run=1&keep-last=1", "URL/admin/datastore/tank/prune"), `"keep":true`, "200 HTTP/1.1")
	want(s.curl("-b", ticket, "-H", csrf, "-H", "Content-Type: application/json; charset=UTF-8", "-d", `{"backup-type":"vm","backup-id":"100","dry-run":true}`, "URL/admin/datastore/tank/prune"), `"keep":true`, "200 HTTP/1.1")
	want(s.curl("-G", "-b", ticket, "--data-urlencode", "backup-id=100", "-d", "backup-type=vm", "URL/admin/datastore/tank/snapshots"), `"backup-time":1717600000`, "200 HTTP/1.1")
	for _, header := range []string{"Authorization: PBSAPIToken admin@pbs!nas:" + key, "Authorization: PBSAPIToken=admin@pbs!nas:" + key, "Authorization: PBSAPIToken=admin@pbs!nas:" + strings.ReplaceAll(key, "-", "%2D")} {
		want(s.curl("-H", header, "URL/admin/datastore/tank/groups"), `"backup-id":"100"`, "200 HTTP/1.1")
		want(s.curl("-H", header, "-X", "DELETE", "URL/admin/datastore/tank/groups?backup-type=vm&backup-id=100"), "is needed on /datastore/tank", "403 HTTP/1.1")
	}
	want(s.curl("--path-as-is", "-b", ticket, "URL/../json/version"), "begins with a dot", "400 HTTP/1.1")
	want(s.curl("--path-as-is", "-b", ticket, "URL//version"), `"version":"4.2"`, "200 HTTP/1.1")
	want(s.curl("-b", ticket, "URL/admin/datastore/tank/download?backup-type=vm&backup-id=100&backup-time=1717600000&file-name=vm.conf.blob", "-o", filepath.Join(s.dir, "got")), "", "200 HTTP/1.1")
	saved, err := os.ReadFile(filepath.Join(s.dir, "got"))
	stored, err2 := os.ReadFile(filepath.Join(s.path("tank"), "vm/100/2024-06-05T15:06:40Z/vm.conf.blob"))
	if err != nil || err2 != nil || string(saved) != string(stored) {
		t.Errorf("%d bytes were downloaded, want %d; %v, %v", len(saved), len(stored), err, err2)
	}

	// A log of 5 MiB, for which curl asks for leave, and then one in pieces.
	enc, err := blob.NewEncoder(nil, nil, true)
	s.ok(err)
	defer enc.Close()
	raw, err := enc.Append(nil, []byte(strings.Repeat("log ", 5<<18)))
	s.ok(err)
	file := filepath.Join(s.dir, "log")
	s.ok(os.WriteFile(file, raw, 0o644))
	up := "URL/admin/datastore/tank/upload-backup-log?backup-type=vm&backup-id=100&backup-time=1717600000"
	want(s.curl("-b", ticket, "--data-binary", "@"+file, up), "authentication failed", "401 HTTP/1.1")
	want(s.curl("-b", ticket, "-H", csrf, "-H", "Content-Type: application/octet-stream", "--data-binary", "@"+file, up), `{"data":null}`, "200 HTTP/1.1")
	want(s.curl("-b", ticket, "-H", csrf, "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+file, up), "already contains a log", "400 HTTP/1.1")
	want(s.curl("-X", "DELETE", "-b", ticket, "-H", csrf, "URL/admin/datastore/tank/snapshots?backup-type=vm&backup-id=100&backup-time=1717600000"), `{"data":null}`, "200 HTTP/1.1")

	// Plain HTTP is sent away.
	cmd := exec.CommandContext(t.Context(), "curl", "-s", "-w", "%{http_code} %{redirect_url}", "http://"+s.addr+"/")
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "301 https://"+s.addr+"/") {
		t.Errorf("plain HTTP: %q, %v", out, err)
	}
}
