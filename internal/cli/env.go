package cli

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// Env is the world as commands see it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	Hostname       func() (string, error)
	Asker          secret.Asker // nil where nobody can be asked
	Now            func() time.Time
	Location       *time.Location // of calendar days when pruning
	Rand           io.Reader
	Version        string
	Program        string // what this was called as
	Open           func(path string, sync datastore.SyncLevel) (repo.Repository, error)
	Create         func(ctx context.Context, path string, o datastore.CreateOptions) error
}

// System is the world of this process.
func System(version string) Env {
	return Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LookupEnv: os.LookupEnv,
		Hostname:  os.Hostname,
		Asker:     secret.OnTerminal(os.Stdin, os.Stderr),
		Now:       time.Now,
		Location:  time.Local,
		Rand:      rand.Reader,
		Version:   version,
		Program:   strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"),
		Open:      openDirectory,
		Create:    dir.Create,
	}
}

func openDirectory(path string, sync datastore.SyncLevel) (repo.Repository, error) {
	r, err := dir.Open(path, dir.Options{Sync: sync})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// getenv returns the first of the variables that is set and not empty.
func (e Env) getenv(variables ...string) string {
	for _, name := range variables {
		if v, ok := e.LookupEnv(name); ok && v != "" {
			return v
		}
	}
	return ""
}
