package idmap

import (
	"fmt"
	"strings"
)

// ParseLXC reads the configuration of a container of LXC or of Proxmox VE.
func ParseLXC(text []byte) (*Map, error) {
	var l list
	known, unprivileged := false, false
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			break // a snapshot of the container
		}
		key, value, ok := setting(line)
		if !ok {
			continue
		}
		switch {
		case key == "lxc.idmap" || key == "lxc.id_map":
			if value == "" {
				l = list{}
				break
			}
			f := strings.Fields(value)
			if err := l.add(f[0], f[1:]...); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		case key == "unprivileged":
			unprivileged = value == "1"
		}
		known = known || isContainerKey(key)
	}
	if !known {
		return nil, fmt.Errorf("%w: it is no configuration of a container", ErrInvalid)
	}
	if unprivileged && len(l.users)+len(l.groups) == 0 {
		return ParseSpecs("b:0:100000:65536")
	}
	return l.newMap()
}

// setting splits "key = value" of LXC and "key: value" of Proxmox VE, which
// has lines of LXC in either form too.
func setting(line string) (key, value string, ok bool) {
	if strings.HasPrefix(line, "#") {
		return "", "", false
	}
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:]), true
}

// isContainerKey reports whether a setting is one that the configuration of a
// container has and other files do not.
func isContainerKey(key string) bool {
	switch key {
	case "unprivileged", "rootfs", "ostype":
		return true
	}
	return strings.HasPrefix(key, "lxc.")
}
