package guest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
)

// errPowerOff ends the agent because the host asked for it.
var errPowerOff = errors.New("power off")

// portWait is how long the port may take to appear after its driver is loaded.
const portWait = 10 * time.Second

// agent serves the host until the port closes or the host wants the power off.
func agent(warnings []string) error {
	spareMe(os.Getpid(), "-900") // where it cannot be had, the agent is one of many
	port, err := openPort(time.Now().Add(portWait))
	if err != nil {
		return err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	hello := wire.Hello{
		Version: wire.Version, Kernel: unix.ByteSliceToString(uts.Release[:]),
		Uptime: uptime(), Warnings: warnings,
	}
	watch, err := newWatchdog()
	if err != nil {
		return err
	}
	handle := func(st *wire.Stream) {
		defer watch.hold()()
		r, err := answer(st)
		if err != nil && !errors.Is(err, errPowerOff) {
			r.Error = err.Error()
		}
		_ = st.End(r) // a broken session is known to its reader
		if errors.Is(err, errPowerOff) {
			os.Exit(0) // process 1 takes the power
		}
	}
	go listen(hello, handle) // as long as the agent
	return wire.Serve(port, hello, handle)
}

// spareMe says how much a process is wanted when memory is short: from -1000, the kernel
// ends any other before, to 1000.
func spareMe(pid int, score string) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(score), 0o600)
}

// openPort finds the port by its name, which the kernel learns a little after
// the device appears.
func openPort(deadline time.Time) (*os.File, error) {
	for {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err == nil && string(bytes.TrimSpace(b)) == Port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no virtio-serial port named %s (ports: %s): is virtio_console loaded?",
				Port, strings.Join(names, " "))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func uptime() (seconds float64) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		seconds = float64(ts.Nano()) / 1e9
	}
	return seconds
}
