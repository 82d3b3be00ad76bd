//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// site is the directory with input, repositories and the server's
// configuration.
type site struct {
	options
	dir         string
	image       string // raw disk image
	tree        string
	noiseImage  string
	secret      string // of the token
	fingerprint string
}

const who = "bench@pbs!bench"

func newSite(ctx context.Context, o options) (*site, error) {
	s := &site{options: o, dir: o.Work, image: filepath.Join(o.Work, "small.img"), noiseImage: filepath.Join(o.Work, "noise.img")}
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755)); err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *site) fill(ctx context.Context) error {
	fmt.Println("making the input")
	if _, _, err := (measure.Command{Args: []string{s.bench, "-generate", "small", "-work", s.dir}}).Run(ctx); err != nil {
		return err
	}
	root, _, err := measure.Command{Args: []string{"go", "env", "GOROOT"}}.Run(ctx)
	if err != nil {
		return err
	}
	if s.tree, err = filepath.EvalSymlinks(strings.TrimSpace(string(root))); err != nil {
		return err
	}
	f, err := os.Create(s.noiseImage)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{8}), s.noise<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.configure(ctx)
}

// configure makes the server's configuration and a token that may do anything.
func (s *site) configure(ctx context.Context) error {
	var token, cert struct{ Value, Fingerprint string }
	for _, c := range []struct {
		args []string
		into any
	}{
		{[]string{"init"}, nil},
		{[]string{"user", "add", "bench@pbs"}, nil},
		{[]string{"token", "add", who, "--output-format", "json"}, &token},
		{[]string{"acl", "grant", "/", "bench@pbs", "Admin"}, nil},
		{[]string{"acl", "grant", "/", who, "Admin"}, nil},
		{[]string{"cert", "show", "--output-format", "json"}, &cert},
	} {
		out, err := s.configured(ctx, c.args...)
		if err != nil {
			return err
		}
		if c.into != nil {
			if err := json.Unmarshal(out, c.into); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.Join(c.args, " "), err, out)
			}
		}
	}
	s.secret, s.fingerprint = token.Value, cert.Fingerprint
	return nil
}

func (s *site) configured(ctx context.Context, args ...string) ([]byte, error) {
	out, _, err := measure.Command{
		Args: append([]string{s.Holdfast, "server"}, args...),
		Env:  []string{"HOLDFAST_SERVER_CONFIG=" + s.path("conf"), "PBS_NEW_USER_PASSWORD=not used"},
	}.Run(ctx)
	return out, err
}

// store makes a datastore, which a server that runs takes notice of.
func (s *site) store(ctx context.Context, name string) error {
	if _, _, err := s.lazily(s.path(name)).Run(ctx); err != nil {
		return err
	}
	_, err := s.configured(ctx, "datastore", "add", name, s.path(name), "--reuse")
	return err
}

// lazily makes a repository whose chunk directories come as they are needed:
// there are thousands of others, and each store lasts a round.
func (s *site) lazily(path string) measure.Command {
	return measure.Command{Args: []string{s.Holdfast, "init", "--lazy", path}}
}

func (s *site) path(rel ...string) string { return filepath.Join(append([]string{s.dir}, rel...)...) }

// remote is a command of holdfast on a datastore of the server at addr.
func (s *site) remote(addr, store string, args ...string) measure.Command {
	c := s.local(who+"@"+addr+":"+store, args...)
	c.Env = []string{"PBS_PASSWORD=" + s.secret, "PBS_FINGERPRINT=" + s.fingerprint}
	return c
}

// local is a command of holdfast on a repository.
func (s *site) local(repository string, args ...string) measure.Command {
	return measure.Command{Args: append(append([]string{s.Holdfast}, args...), "--repository", repository), Dir: s.dir}
}

// size is how many bytes of files lie below a directory.
func size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// same compares two files or two directories.
func same(ctx context.Context, a, b string) error {
	out, err := exec.CommandContext(ctx, "diff", "-rq", "--no-dereference", a, b).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s and %s differ: %w: %s", a, b, err, bytes.TrimSpace(out))
	}
	return nil
}
