package remote_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

const password = "correct horse battery"

// site is a server with the datastore "tank" and an administrator admin@pbs.
type site struct {
	t           *testing.T
	path        string // of the datastore
	accounts    *accounts.Store
	address     address.Address
	fingerprint address.Fingerprint
}

func newSite(t *testing.T) *site {
	t.Helper()
	base := t.TempDir()
	s := &site{t: t, path: filepath.Join(base, "tank")}
	conf := confdir.New(filepath.Join(base, "conf"))
	s.ok(conf.Make())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s.accounts = accounts.NewStore(conf, log)
	s.ok(dir.Create(t.Context(), s.path, datastore.CreateOptions{Lazy: true}))
	s.ok(stores.New(conf).Add(t.Context(), stores.Addition{Name: "tank", Path: s.path, Reuse: true}))
	s.user("admin@pbs", access.Admin)
	srv, err := server.New(server.Options{
		Config: conf, Node: "pbs1", Version: "test", Location: time.UTC, Log: log, Grace: 10 * time.Second,
		Delay: server.Delays{Unauthorized: time.Millisecond, Forbidden: time.Millisecond},
	})
	s.ok(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.ok(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	s.address, s.fingerprint = addressOf(t, l.Addr().String(), "admin@pbs"), fingerprintOf(t, l.Addr().String())
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func addressOf(t *testing.T, hostport, who string) address.Address {
	t.Helper()
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return address.Address{Auth: auth(who), Host: host, Port: uint16(n), Store: "tank"}
}

func fingerprintOf(t *testing.T, hostport string) address.Fingerprint {
	t.Helper()
	conn, err := tls.Dial("tcp", hostport, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return address.FingerprintOf(conn.ConnectionState().PeerCertificates[0].Raw)
}

func auth(text string) names.AuthID {
	id, err := names.ParseAuthID(text)
	if err != nil {
		panic(err)
	}
	return id
}

func (s *site) user(id string, role access.Role) {
	s.t.Helper()
	s.ok(s.accounts.ChangeUsers(s.t.Context(), "", func(u *access.Users) error { return u.Add(access.Account{ID: auth(id)}) }))
	s.ok(s.accounts.SetPassword(s.t.Context(), auth(id), secret.New([]byte(password))))
	s.grant(id, role)
}

func (s *site) grant(id string, role access.Role) {
	s.t.Helper()
	s.ok(s.accounts.ChangeACL(s.t.Context(), "", func(a *access.ACL) error {
		a.Grant(access.Entry{Path: "/", Who: access.Who{ID: auth(id)}, Role: role, Propagate: true})
		return nil
	}))
}

// options are those of somebody who knows the password.
func (s *site) options() remote.Options {
	return remote.Options{
		Fingerprint: s.fingerprint,
		Password:    func(context.Context) (secret.Secret, error) { return secret.New([]byte(password)), nil },
	}
}

func (s *site) open(o remote.Options) *remote.Repository {
	s.t.Helper()
	return open(s.t, s.address, o)
}

func open(t *testing.T, a address.Address, o remote.Options) *remote.Repository {
	t.Helper()
	r, err := remote.Open(a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// local opens the same datastore as a directory.
func (s *site) local() *datastore.Store {
	s.t.Helper()
	r, err := dir.Open(s.path, dir.Options{})
	s.ok(err)
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}
