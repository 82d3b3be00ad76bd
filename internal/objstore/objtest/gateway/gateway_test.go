package gateway_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
	"github.com/holdfast-backup/holdfast/internal/objstore/probe"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
)

func TestARealEngineKeepsWhatAnObjectStorePromises(t *testing.T) {
	g := gateway.Start(t)
	for name, lock := range map[string]bool{"plain": false, "locking": true} {
		t.Run(name, func(t *testing.T) {
			at := g.Bucket(t, name, lock)
			n := 0
			objtest.Run(t, objtest.Abilities{IfTag: true, Lock: lock, Files: true}, func(t *testing.T) objstore.Store {
				n++
				at.Prefix = fmt.Sprint("test/", n)
				return g.Open(t, at)
			})
		})
	}
}

func TestARealEngineIsFitForSeveralWriters(t *testing.T) {
	g := gateway.Start(t)
	s := retry.New(g.Open(t, g.Bucket(t, "bucket", true)), retry.Usual)
	r, err := probe.Run(t.Context(), s, probe.Options{Large: 1 << 20, Lock: true, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.OK && c.Needed <= probe.Several {
			t.Errorf("%s: %v", c.Name, c.Err)
		}
	}
}

func TestARealEngineTellsWhatItRefuses(t *testing.T) {
	g := gateway.Start(t)
	at := g.Bucket(t, "bucket", false)
	put := func(s objstore.Store) error {
		_, err := s.Put(t.Context(), "o", strings.NewReader("x"), objstore.PutOptions{})
		return err
	}
	if err := put(g.Open(t, at)); err != nil {
		t.Fatal(err)
	}
	if err := put(g.Open(t, g.Address(t, "none"))); !errors.Is(err, objstore.ErrBucket) {
		t.Errorf("no bucket: %v", err)
	}
	if err := put(g.OpenAs(t, at, gateway.AccessKey, "wrong")); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("a wrong secret: %v", err)
	}
	if err := put(g.OpenAs(t, at, "nobody", "wrong")); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("a key that nobody has: %v", err)
	}
	secret := g.User(t, "writer", "bucket", "s3:PutObject", "s3:GetObject", "s3:ListBucket")
	writer := g.OpenAs(t, at, "writer", secret)
	if _, _, err := writer.List(t.Context(), "", "", 10); err != nil {
		t.Errorf("who may list: %v", err)
	}
	if _, err := writer.Put(t.Context(), "new", strings.NewReader("x"), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
		t.Errorf("who may write: %v", err)
	}
	if err := writer.Delete(t.Context(), []string{"o"}); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("who may not remove: %v", err)
	}
	if err := writer.Delete(t.Context(), []string{"o", "new"}); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("who may not remove several: %v", err)
	}
}
