package idmap

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// maxFile bounds what Load reads of a file, in bytes. Configurations have a few
// thousand, backup.yaml with many snapshots some hundred thousand.
const maxFile = 8 << 20

// Load reads the map from a file of any kind that the package comment lists; or
// from that of a process, if path is its directory in /proc or one of the two
// files there.
func Load(path string) (*Map, error) {
	if base := filepath.Base(path); base == "uid_map" || base == "gid_map" {
		path = filepath.Dir(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return loadProc(path)
	}
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	m, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func loadProc(dir string) (*Map, error) {
	var texts [2][]byte
	for i, name := range []string{"uid_map", "gid_map"} {
		var err error
		if texts[i], err = read(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	m, err := ParseProc(texts[0], texts[1])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: %w: it is longer than %d bytes", path, ErrInvalid, maxFile)
	}
	return b, err
}

// incusLine is what a dump of Incus or LXD has and a configuration of LXC or
// Proxmox VE does not.
var incusLine = regexp.MustCompile(`(?m)^(\{|(config|instance|container):|\s*volatile\.)`)

// Parse reads the configuration of a container, whatever made it.
func Parse(text []byte) (*Map, error) {
	if incusLine.Match(bytes.TrimSpace(text)) {
		return ParseIncus(text)
	}
	return ParseLXC(text)
}
