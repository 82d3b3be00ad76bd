package cli

import (
	"fmt"
	"os"
	"path/filepath"
)

// Where the server's unit has its files (deploy/systemd/holdfast-server.service), and
// where PBS has those that others use too.
const (
	unitConfig = "/etc/holdfast/server"
	unitState  = "/var/lib/holdfast"
	unitRun    = "/run/holdfast/server"
	pbsRun     = "/run/proxmox-backup"
)

// tapeState is where it is kept what is known of media, by the directory of the
// configuration. A server and the commands beside it have to agree on it.
func tapeState(config string) string {
	switch filepath.Clean(config) {
	case pbsDir:
		return "/var/lib/proxmox-backup/tape"
	case unitConfig:
		return filepath.Join(unitState, "tape")
	}
	return filepath.Join(config, "state", "tape")
}

// runDir is for what does not outlive the machine's being switched off: locks of
// drives, and what they are busy with. Programs that use the same drives have to
// agree on it, so it is PBS's where that is.
func (a *app) runDir() string {
	if isDir(pbsRun) {
		return pbsRun
	}
	if dir := a.getenv("RUNTIME_DIRECTORY"); dir != "" { // of the service manager
		return dir
	}
	if isDir(unitRun) || os.Geteuid() == 0 {
		return unitRun
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-run-%d", os.Geteuid()))
}
