// Package process names a process so that no other one, on any host and at any
// time, has the same name, and says of one of this host whether it is dead.
package process

import (
	"os"

	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Self is this process. Without a boot nobody can tell whether it is dead.
func Self() catalog.Process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	p := catalog.Process{Host: host, PID: os.Getpid()}
	p.Boot, p.Start = epoch()
	return p
}

// Dead reports whether a process is known to be dead: one of this host, in this
// run of it, that is not there any more. Of all others nothing is known.
func Dead(p catalog.Process) bool {
	self := Self()
	return p.Boot != "" && p.Host == self.Host && p.Boot == self.Boot && vanished(p.PID, p.Start)
}
