package server

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// machine remembers the counters of the processor between two looks.
type machine struct {
	mu   sync.Mutex
	last cpuTimes
}

// cpuTimes are ticks since the machine was started.
type cpuTimes struct{ total, idle, wait uint64 }

// status reads /proc.
func (m *machine) status() (*nodeItem, error) {
	mem, err := meminfo()
	if err != nil {
		return nil, err
	}
	st := &nodeItem{
		Memory: memoryItem{Total: mem["MemTotal"], Free: mem["MemAvailable"], Used: mem["MemTotal"] - mem["MemAvailable"]},
		Swap:   memoryItem{Total: mem["SwapTotal"], Free: mem["SwapFree"], Used: mem["SwapTotal"] - mem["SwapFree"]},
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/", &fs); err != nil {
		return nil, err
	}
	block := uint64(fs.Bsize)
	st.Root = spaceItem{Total: fs.Blocks * block, Used: (fs.Blocks - fs.Bfree) * block, Avail: fs.Bavail * block}
	if err := m.load(st); err != nil {
		return nil, err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, err
	}
	text := func(b [65]byte) string { return unix.ByteSliceToString(b[:]) }
	st.Kernel = kernelItem{text(name.Sysname), text(name.Release), text(name.Version), text(name.Machine)}
	st.Version = st.Kernel.System + " " + st.Kernel.Release + " " + st.Kernel.Version
	st.CPUInfo, err = cpuinfo()
	st.Boot = bootInfo()
	return st, err
}

// meminfo returns the lines of /proc/meminfo in bytes.
func meminfo() (map[string]uint64, error) {
	all := map[string]uint64{}
	return all, eachLine("/proc/meminfo", func(line string) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) > 0 {
			n, _ := strconv.ParseUint(f[0], 10, 64) // a line that is no number counts as 0
			all[name] = n << 10
		}
	})
}

// load fills in what is measured over time.
func (m *machine) load(st *nodeItem) error {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	for i, f := range strings.Fields(string(b))[:3] {
		st.Load[i], _ = strconv.ParseFloat(f, 64)
	}
	if b, err = os.ReadFile("/proc/uptime"); err != nil {
		return err
	}
	up, _ := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	st.Uptime = int64(up)
	var now cpuTimes
	err = eachLine("/proc/stat", func(line string) {
		rest, ok := strings.CutPrefix(line, "cpu ")
		if !ok {
			return
		}
		for i, f := range strings.Fields(rest) {
			n, _ := strconv.ParseUint(f, 10, 64)
			switch {
			case i > 7: // guests are in user time already
				continue
			case i == 3:
				now.idle = n
			case i == 4:
				now.wait = n
			}
			now.total += n
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if total := float64(now.total - m.last.total); now.total > m.last.total {
		st.Wait = float64(now.wait-m.last.wait) / total
		st.CPU = 1 - float64(now.idle-m.last.idle)/total - st.Wait
	}
	m.last = now
	return err
}

// traffic counts the bytes that went through all interfaces but the loopback one.
func traffic() (in, out float64, err error) {
	err = eachLine("/proc/net/dev", func(line string) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) < 9 {
			return
		}
		n, _ := strconv.ParseFloat(f[0], 64) // what is no number counts as 0
		in += n
		n, _ = strconv.ParseFloat(f[8], 64)
		out += n
	})
	return in, out, err
}

func cpuinfo() (c cpuItem, err error) {
	sockets := map[string]bool{}
	err = eachLine("/proc/cpuinfo", func(line string) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "processor":
			c.CPUs++
		case "model name":
			c.Model = value
		case "physical id":
			sockets[value] = true
		}
	})
	c.Sockets = max(1, len(sockets))
	return c, err
}

func bootInfo() bootItem {
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return bootItem{Mode: "legacy-bios"}
	}
	b := bootItem{Mode: "efi"}
	v, err := os.ReadFile("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	b.SecureBoot = err == nil && len(v) == 5 && v[4] == 1 // four bytes of attributes first
	return b
}

func eachLine(path string, f func(string)) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}
