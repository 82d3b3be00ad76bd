//go:build linux

// Command holdfast-tape-key puts the keys of tapes into drives for programs that may
// not read them: see internal/tape/keysvc. The service manager starts it for each
// connection to its socket; it needs the right to read the file of keys, and no other.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/keys"
	"github.com/holdfast-backup/holdfast/internal/tape/keysvc"
)

func main() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("it took too long"))
	defer cancel()
	e := keysvc.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Keys: func(dir string) tape.Keys { return keys.New(confdir.New(dir)) },
	}
	if err := e.Main(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-tape-key:", err)
		os.Exit(1)
	}
}
