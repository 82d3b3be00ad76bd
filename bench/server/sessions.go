//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

const (
	sessionCount = 32
	sessionBytes = 64 << 20
)

// idleMemory is what a server has that was asked one thing and then nothing.
func idleMemory(ctx context.Context, s *site, res *results) (err error) {
	const store = "idle"
	if err := s.store(ctx, store); err != nil {
		return err
	}
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, _, err := s.remote(p.addr, store, "snapshot", "list").Run(ctx); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	res.idle, err = p.Memory("VmRSS")
	return err
}

// sessions is the most memory of a server that many back up to at a time. The
// sessions wait for one another before the first byte.
func sessions(ctx context.Context, s *site, res *results) (err error) {
	const store = "busy"
	if err := s.store(ctx, store); err != nil {
		return err
	}
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var ready sync.WaitGroup
	ready.Add(sessionCount)
	g, ctx := errgroup.WithContext(ctx)
	for i := range sessionCount {
		g.Go(func() error {
			arrived := sync.OnceFunc(ready.Done)
			defer arrived()
			r, err := s.open(p.addr, store)
			if err != nil {
				return err
			}
			_, err = backup.Run(ctx, r, backup.Job{
				Snapshot: names.Snapshot{Group: names.Group{Type: names.Host, ID: fmt.Sprint("client-", i)}, Time: 1_700_000_000},
				Sources:  []backup.Source{{Name: "noise.img.fidx", Image: noise{uint64(i)}}},
				Options:  backup.Options{Workers: 1},
				Started:  func(names.Archive, int64) { arrived(); ready.Wait() },
			})
			return errors.Join(err, r.Close())
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	res.busy, err = p.Memory("VmHWM")
	return err
}

// open opens a datastore in this process.
func (s *site) open(addr, store string) (*remote.Repository, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	auth, err := names.ParseAuthID(who)
	if err != nil {
		return nil, err
	}
	fp, err := address.ParseFingerprint(s.fingerprint)
	if err != nil {
		return nil, err
	}
	return remote.Open(address.Address{Auth: auth, Host: host, Port: uint16(port), Store: store}, remote.Options{
		Fingerprint: fp,
		Password:    func(context.Context) (secret.Secret, error) { return secret.New([]byte(s.secret)), nil },
	})
}

// noise is an incompressible image that lies nowhere: each MiB from its own
// seed.
type noise struct{ seed uint64 }

func (n noise) Size() int64 { return sessionBytes }

func (n noise) ReadAt(p []byte, off int64) (int, error) {
	const piece = 1 << 20
	for done := 0; done < len(p); {
		at := off + int64(done)
		r := rand.NewChaCha8([32]byte{byte(n.seed), byte(at / piece)})
		buf := make([]byte, piece)
		_, _ = r.Read(buf) // never fails
		done += copy(p[done:], buf[at%piece:])
	}
	return len(p), nil
}
