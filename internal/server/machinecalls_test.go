package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access/tfa"
)

func TestTheMachineIsShown(t *testing.T) {
	s := newSite(t)
	s.opt.Journal = filepath.Join(t.TempDir(), "journalctl")
	s.ok(os.WriteFile(s.opt.Journal, []byte("#!/bin/sh\ncase \"$*\" in\n*json*) echo '{\"__CURSOR\":\"s=1\",\"__REALTIME_TIMESTAMP\":\"0\",\"_HOSTNAME\":\"h\",\"MESSAGE\":\"m\"}';;\n*) seq 1 60;;\nesac\n"), 0o700))
	s.start()
	c := s.login("admin@pbs")
	c.get("/nodes").want(200, `{"data":[{"node":"localhost"}]}`)
	var now struct {
		Timezone        string
		Time, Localtime int64
	}
	c.get("/nodes/localhost/time").data(&now)
	if now.Timezone != "UTC" || now.Time != now.Localtime || time.Since(time.Unix(now.Time, 0)) > time.Minute {
		t.Errorf("%+v", now)
	}
	c.get("/nodes/localhost/journal", "lastentries", "1").want(200, `{"data":["s=1","Jan 01 00:00:00 h unknown: m","s=1"]}`)
	c.get("/nodes/localhost/journal", "since", "1", "startcursor", "s=1").want(400, "exclude one another")
	c.get("/nodes/localhost/journal", "startcursor", "--output=cat").want(400, "startcursor")
	c.get("/nodes/localhost/syslog", "start", "60").want(200, `{"data":[{"n":60,"t":"60"}],"total":60}`)
	c.get("/nodes/localhost/syslog", "service", "-x").want(400, "service")
	var graph []map[string]float64
	c.get("/admin/datastore/tank/rrd", "timeframe", "hour", "cf", "AVERAGE").data(&graph)
	if len(graph) != 1 || graph[0]["total"] < graph[0]["used"] || graph[0]["total"] == 0 || graph[0]["time"] == 0 {
		t.Errorf("%v", graph)
	}
	c.get("/admin/datastore/none/rrd", "timeframe", "hour").want(400, "no such datastore")
	c.get("/nodes/localhost/rrd", "timeframe", "hour", "cf", "MAX").want(200, `"data":[`)
}

func TestTheCertificateIsShownAndReplaced(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	var list []struct {
		Fingerprint, PEM string
		KeyType          string `json:"public-key-type"`
	}
	c.get("/nodes/localhost/certificates/info").data(&list)
	first := s.server.Fingerprint()
	if len(list) != 1 || list[0].Fingerprint != first || list[0].KeyType != "id-ecPublicKey" {
		t.Errorf("%+v", list)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.ok(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "pbs.example.org"}, DNSNames: []string{"pbs.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	s.ok(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	s.ok(err)
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	c.post("/nodes/localhost/certificates/custom", "certificates", chain).want(400, "certificate and key")
	if got := s.server.Fingerprint(); got != first {
		t.Errorf("a certificate that does not fit was taken: %s", got)
	}
	c.post("/nodes/localhost/certificates/custom", "certificates", chain, "key", secret, "force", "1").want(200, `"san":["pbs.example.org"]`)
	c.del("/nodes/localhost/certificates/custom").want(200, "null")
	c.get("/nodes/localhost/certificates/info").data(&list)
	if list[0].Fingerprint == first {
		t.Error("it is the first one still")
	}
}

func TestSecondFactorsAreListedAndSwitchedOff(t *testing.T) {
	s := newSite(t)
	s.addUser("ann@pbs")
	totp, err := tfa.New("here", "ann@pbs", rand.Reader)
	s.ok(err)
	s.ok(s.store.ChangeTFA(t.Context(), func(c *tfa.Config) error {
		now := time.Now()
		return c.AddTOTP("ann@pbs", "one", "phone", totp, totp.Code(now.Unix()/30), now)
	}))
	s.start()
	c := s.login("admin@pbs")
	c.get("/access/tfa").want(200, `[{"userid":"ann@pbs","entries":[{"id":"one","type":"totp","description":"phone",`)
	c.get("/access/tfa/ann@pbs/two").want(404, "no such tfa entry")
	c.put("/access/tfa/ann@pbs/one", "enable", "0", "password", password).want(200, "null")
	c.get("/access/tfa/ann@pbs/one").want(200, `"description":"phone"`)
	c.get("/access/tfa/ann@pbs/one").want(200, `"enable":false`)
	ann := s.login("ann@pbs") // the factor does not count any more
	ann.get("/access/tfa").want(200, `"userid":"ann@pbs"`)
	c.get("/access/tfa/ann@pbs").want(200, `"id":"one"`)
	s.addUser("bob@pbs")
	s.login("bob@pbs").get("/access/tfa").want(200, `{"data":[]}`)
}
