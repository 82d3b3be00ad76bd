package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/cert"
	"github.com/holdfast-backup/holdfast/internal/server/journal"
)

// machineCalls are the calls about the machine that the server runs on.
func (s *Server) machineCalls() []api.Call {
	const at = "/nodes/{node}"
	logs := api.Where("/system/log", access.SysAudit)
	certs := api.Where("/system/certificates", access.SysModify)
	return []api.Call{
		{
			Method: "GET", Path: "/nodes", Doc: "List the nodes: there is one.", Guard: api.LoggedIn(""),
			Do: api.Data(func(context.Context, *api.Request) ([]nodeName, error) { return []nodeName{{"localhost"}}, nil }),
		},
		{Method: "GET", Path: at + "/time", Doc: "Show the time and its zone.", Guard: api.LoggedIn(""), Params: []api.AnyParam{params.node}, Do: api.Data(s.time)},
		{
			Method: "GET", Path: at + "/journal", Doc: "Read the machine's journal: the cursor of the first entry, the entries, and the cursor of the last.",
			Guard: logs, Params: []api.AnyParam{params.node, journalSince, journalUntil, journalLast, journalAfter, journalBefore}, Do: api.Each(s.readJournal),
		},
		{
			Method: "GET", Path: at + "/syslog", Doc: "Read lines of the machine's journal.",
			Guard: logs, Params: []api.AnyParam{params.node, syslogStart, syslogLimit, syslogSince, syslogUntil, syslogService}, Do: api.Each(s.readSyslog),
		},
		{
			Method: "GET", Path: at + "/certificates/info", Doc: "Show the server's certificate.",
			Guard: certs, Params: []api.AnyParam{params.node}, Do: api.Data(s.certificates),
		},
		{
			Method: "POST", Path: at + "/certificates/custom", Doc: "Give the server another certificate, which it takes within a second.",
			Guard: certs, Params: []api.AnyParam{params.node, certChain, certKey, certForce, certRestart}, Do: api.Data(s.installCertificate),
		},
		{
			Method: "DELETE", Path: at + "/certificates/custom", Doc: "Make another key and a certificate that is signed by itself.",
			Guard: certs, Params: []api.AnyParam{params.node, certRestart}, Do: api.Nothing(s.renewCertificate),
		},
	}
}

const dateTime = `[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}(:[0-9]{2})?)?`

var (
	journalSince  = api.Int("since", "The entries since then, seconds since 1970.", 0, 1<<40).Optional()
	journalUntil  = api.Int("until", "The entries until then.", 0, 1<<40).Optional()
	journalLast   = api.Int("lastentries", "Only so many, the last.", 1, 5000).Optional()
	journalAfter  = api.Match("startcursor", "The entries behind that with this cursor.", `[A-Za-z0-9=;]+`, 512).Optional()
	journalBefore = api.Match("endcursor", "The entries before that with this cursor.", `[A-Za-z0-9=;]+`, 512).Optional()
	syslogStart   = api.Int("start", "The first line, counted from 1.", 0, 1<<40).Default(0)
	syslogLimit   = api.Int("limit", "How many lines.", 0, 5000).Default(50)
	syslogSince   = api.Match("since", "The lines since then, as 2026-01-31 10:00:00.", dateTime, 32).Optional()
	syslogUntil   = api.Match("until", "The lines until then.", dateTime, 32).Optional()
	syslogService = api.Match("service", "The lines of this unit.", `[A-Za-z0-9_][A-Za-z0-9@:._\-]*`, 128).Optional()
	certChain     = api.Text("certificates", "The certificate and those above it, PEM.", 256<<10)
	certKey       = passwordParam("key", "Its key, PEM; without it that of the present certificate.").Optional()
	certForce     = api.Bool("force", "Does not matter here.").Default(false)
	certRestart   = api.Bool("restart", "Does not matter here.").Default(false)
)

// nodeName is the name of a node.
type nodeName struct {
	Node string `json:"node"`
}

// timeItem is the time here.
type timeItem struct {
	Zone  string `json:"timezone"`
	Time  int64  `json:"time" doc:"seconds since 1970-01-01 UTC"`
	Local int64  `json:"localtime" doc:"the same, as if the local time were UTC"`
}

func (s *Server) time(context.Context, *api.Request) (timeItem, error) {
	now := s.now().In(s.opt.Location)
	_, offset := now.Zone()
	return timeItem{zoneName(s.opt.Location), now.Unix(), now.Unix() + int64(offset)}, nil
}

// zoneName is the name of a zone, that of the machine if it is the local one.
func zoneName(l *time.Location) string {
	if l != time.Local {
		return l.String()
	}
	if b, err := os.ReadFile("/etc/timezone"); err == nil && len(b) > 1 {
		return strings.TrimSpace(string(b))
	}
	if link, err := os.Readlink("/etc/localtime"); err == nil {
		if _, name, ok := strings.Cut(link, "/zoneinfo/"); ok {
			return name
		}
	}
	name, _ := time.Now().Zone()
	return name
}

func (s *Server) journal() journal.Reader {
	return journal.Reader{Program: s.opt.Journal, Location: s.opt.Location}
}

func (s *Server) readJournal(ctx context.Context, r *api.Request, yield func(string) error) error {
	g := journal.Range{After: journalAfter.Of(r), Before: journalBefore.Of(r), Last: int(journalLast.Of(r))}
	if at, given := journalSince.Given(r); given {
		g.Since = time.Unix(at, 0)
	}
	if at, given := journalUntil.Given(r); given {
		g.Until = time.Unix(at, 0)
	}
	if g.After != "" && !g.Since.IsZero() || g.Before != "" && !g.Until.IsZero() {
		return errors.New("a cursor and a time exclude one another")
	}
	return s.journal().Entries(ctx, g, yield)
}

func (s *Server) readSyslog(ctx context.Context, r *api.Request, yield func(items.LogLine) error) error {
	total, err := s.journal().Lines(ctx, journal.Page{
		Since: syslogSince.Of(r), Until: syslogUntil.Of(r), Service: syslogService.Of(r),
		Start: int(syslogStart.Of(r)), Limit: int(syslogLimit.Of(r)),
	}, func(n int, text string) error { return yield(items.LogLine{N: n, Text: text}) })
	r.Set("total", total)
	return err
}

// certItem is a certificate.
type certItem struct {
	File        string   `json:"filename"`
	Subject     string   `json:"subject"`
	SAN         []string `json:"san"`
	Issuer      string   `json:"issuer"`
	NotBefore   int64    `json:"notbefore"`
	NotAfter    int64    `json:"notafter"`
	PEM         string   `json:"pem"`
	KeyType     string   `json:"public-key-type"`
	KeyBits     int      `json:"public-key-bits"`
	Fingerprint string   `json:"fingerprint"`
}

func (s *Server) certificates(context.Context, *api.Request) ([]certItem, error) {
	c, err := cert.Read(s.opt.Config)
	if err != nil {
		return nil, err
	}
	item := certItem{
		File: confdir.Certificate.Name, Subject: c.Subject.String(), Issuer: c.Issuer.String(), SAN: append([]string{}, c.DNSNames...),
		NotBefore: c.NotBefore.Unix(), NotAfter: c.NotAfter.Unix(), Fingerprint: address.FingerprintOf(c.Raw).String(),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
	}
	item.KeyType, item.KeyBits = keyOf(c)
	return []certItem{item}, nil
}

func keyOf(c *x509.Certificate) (kind string, bits int) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return "rsaEncryption", k.N.BitLen()
	case *ecdsa.PublicKey:
		return "id-ecPublicKey", k.Params().BitSize
	case ed25519.PublicKey:
		return "ED25519", 256
	}
	return c.PublicKeyAlgorithm.String(), 0
}

func (s *Server) installCertificate(ctx context.Context, r *api.Request) ([]certItem, error) {
	var key []byte
	if k, given := certKey.Given(r); given {
		key = k.Reveal()
	}
	if err := cert.Install(s.opt.Config, []byte(certChain.Of(r)), key); err != nil {
		return nil, err
	}
	return s.certificates(ctx, r)
}

func (s *Server) renewCertificate(context.Context, *api.Request) error {
	return cert.Renew(s.opt.Config)
}
