// Command agent is a static program for the appliance's /init and nothing else.
// Build it with CGO_ENABLED=0. See package guest.
package main

import (
	"os"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
)

func main() { os.Exit(guest.Main()) }
