package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrThread is wrapped when a disk cannot be read without danger to the guest.
var ErrThread = errors.New("a disk is served by an I/O thread")

// threadsSince is the first major version of QEMU in which an NBD client may
// leave an export that runs in an I/O thread. Older ones end with a failed
// assertion then, and the guest with them (seen with 7.2.22).
const threadsSince = 9

// checkThreads refuses disks in I/O threads where that is a danger. The QEMU of
// the domain is asked itself: it may be older than what is installed now.
func (g *Guest) checkThreads(want []wanted) error {
	for _, w := range want {
		if !w.Threaded {
			continue
		}
		text, err := g.c.l.QEMUDomainMonitorCommand(g.dom, `{"execute":"query-version"}`, 0)
		if err != nil {
			return fmt.Errorf("version of QEMU of domain %s: %w", g.dom.Name, err)
		}
		var v struct {
			Return struct {
				QEMU struct{ Major, Minor int }
			}
		}
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("version of QEMU of domain %s: %w", g.dom.Name, err)
		}
		if q := v.Return.QEMU; q.Major < threadsSince {
			return fmt.Errorf("%w: %s of domain %s, and QEMU %d.%d may end when its backup does, with the guest: leave the disk out, shut the domain down, start it without the thread, or with QEMU %d",
				ErrThread, w.Target, g.dom.Name, q.Major, q.Minor, threadsSince)
		}
		return nil
	}
	return nil
}
