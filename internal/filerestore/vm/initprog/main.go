// Command initprog is a static program for the restore machine's /init and nothing
// else. Build it with CGO_ENABLED=0. See packages guest and inside.
package main

import (
	"os"

	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/inside"
)

func main() { os.Exit(inside.Program(os.Args)) }
