//go:build unix

package pam_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/accounts/pam"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// helper is a program that answers as a test wants.
func helper(t *testing.T, script string) pam.Realm {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return pam.Realm{Path: path}
}

func check(t *testing.T, r pam.Realm) error {
	t.Helper()
	return r.Check(t.Context(), "root", secret.New([]byte("hunter2")), "")
}

func TestAnswersAndFailuresAreToldApart(t *testing.T) {
	for name, tc := range map[string]struct {
		script  string
		refused bool
		want    string
	}{
		"wrong":            {`echo '{"result":"wrong"}'`, true, "wrong password"},
		"expired":          {`echo '{"result":"expired"}'`, true, "expired"},
		"a failure":        {`echo no shadow >&2; exit 1`, false, "no shadow"},
		"another answer":   {`echo '{"result":"perhaps"}'`, false, "perhaps"},
		"no JSON":          {`echo ok`, false, "no answer"},
		"no answer":        {`:`, false, "no answer"},
		"killed":           {`kill -9 $$`, false, "killed"},
		"right, and fails": {`echo '{"result":"ok"}'; exit 1`, false, "exit status 1"},
	} {
		err := check(t, helper(t, tc.script))
		if err == nil || errors.Is(err, accounts.ErrRefused) != tc.refused || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(t, pam.Realm{Path: "/nonexistent/helper"}); err == nil || errors.Is(err, accounts.ErrRefused) || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("a missing program: %v", err)
	}
}

func TestProgramGetsTheNameAsArgumentAndThePasswordAsInput(t *testing.T) {
	r := helper(t, `[ "$*" = "check root" ] && [ "$(cat)" = hunter2 ] && [ "$PWD" = / ] && [ -z "$HOME$PATH_INFO$GOFLAGS" ] && echo '{"result":"ok"}'`)
	t.Setenv("GOFLAGS", "-x")
	if err := check(t, r); err != nil {
		t.Error(err)
	}
}

func TestCheckEndsWithItsCaller(t *testing.T) {
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := helper(t, "sleep 60").Check(ctx, "root", secret.New([]byte("x")), ""); !errors.Is(err, gone) || errors.Is(err, accounts.ErrRefused) {
		t.Errorf("err = %v", err)
	}
}

// service answers at a socket as the service manager would let the program do.
func service(t *testing.T, answer func(asked string) string) pam.Realm {
	t.Helper()
	dir, err := os.MkdirTemp("", "pam") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked, _ := io.ReadAll(c)
			_, _ = io.WriteString(c, answer(string(asked)))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return pam.Realm{Path: "/nonexistent/helper", Socket: filepath.Join(dir, "s")}
}

func TestASocketIsAskedWhereThereIsOne(t *testing.T) {
	for name, tc := range map[string]struct {
		says    string
		refused bool
		want    string
	}{
		"wrong": {`{"result":"wrong"}`, true, "wrong password"}, "nothing": {"", false, "no answer"}, "right": {`{"result":"ok"}`, false, ""},
	} {
		r := service(t, func(asked string) string {
			if asked != "root\nhunter2" {
				t.Errorf("asked %q", asked)
			}
			return tc.says
		})
		err := check(t, r)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || errors.Is(err, accounts.ErrRefused) != tc.refused || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Check(t.Context(), "root\nx", secret.New([]byte("hunter2")), ""); err == nil || errors.Is(err, accounts.ErrRefused) {
			t.Errorf("a name of two lines: %v", err)
		}
	}
}
