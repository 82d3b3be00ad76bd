//go:build linux

// Command holdfast-pam checks the password of one user of this machine: see
// internal/pamcheck. The server starts it for users of realm pam. It needs the rights
// of root. Where the server has them not, it is setuid root and executable for the
// server's group alone: mode 4750, root:holdfast.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/pamcheck"
)

func main() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Second, errors.New("it took too long"))
	defer cancel()
	if err := pamcheck.Run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-pam:", err)
		os.Exit(1)
	}
}
