package idmap

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// The settings that hold a map, the one that counts first.
const (
	keyDisk    = "volatile.last_state.idmap"
	keyRunning = "volatile.idmap.current"
)

// instance is the part of a dump that matters, at each place where dumps have
// it: "config show", "query" and backup.yaml of either program.
type instance struct {
	Config   map[string]any `json:"config" yaml:"config"`
	Metadata *instance      `json:"metadata" yaml:"metadata"`
	Instance *instance      `json:"instance" yaml:"instance"`
	Former   *instance      `json:"container" yaml:"container"`
}

// incusRange is one element of the list.
type incusRange struct {
	Isuid, Isgid           bool
	Hostid, Nsid, Maprange uint32
}

// ParseIncus reads the configuration of an instance of Incus or LXD, YAML or
// JSON.
func ParseIncus(text []byte) (*Map, error) {
	var i *instance
	decode := yaml.Unmarshal
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		decode = json.Unmarshal
	}
	if err := decode(text, &i); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for ; i != nil; i = firstOf(i.Instance, i.Former, i.Metadata) {
		for _, key := range []string{keyDisk, keyRunning} {
			if value, ok := i.Config[key].(string); ok && value != "" {
				return parseIncusList(key, value)
			}
		}
	}
	return nil, fmt.Errorf("%w: it has neither %s nor %s: was the container ever started?", ErrInvalid, keyDisk, keyRunning)
}

func firstOf(list ...*instance) *instance {
	for _, i := range list {
		if i != nil {
			return i
		}
	}
	return nil
}

func parseIncusList(key, value string) (*Map, error) {
	var ranges []incusRange
	if err := json.Unmarshal([]byte(value), &ranges); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, key, err)
	}
	var l list
	for _, r := range ranges {
		entry := Range{Container: r.Nsid, Host: r.Hostid, Count: r.Maprange}
		if r.Isuid {
			l.users = append(l.users, entry)
		}
		if r.Isgid {
			l.groups = append(l.groups, entry)
		}
	}
	m, err := l.newMap()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}
