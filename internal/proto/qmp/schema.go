package qmp

import (
	"context"
	"strings"
)

// Schema is what a QEMU can do.
type Schema struct {
	types    map[string]schemaInfo
	commands map[string]schemaInfo
}

type schemaInfo struct {
	Name     string `json:"name"`
	Meta     string `json:"meta-type"`
	ArgType  string `json:"arg-type"`
	Members  []schemaMember
	Variants []schemaVariant
}

type schemaMember struct{ Name, Type string }

type schemaVariant struct{ Case, Type string }

// Schema asks QEMU for it.
func (c *Client) Schema(ctx context.Context) (*Schema, error) {
	var all []schemaInfo
	if err := c.Run(ctx, "query-qmp-schema", nil, &all); err != nil {
		return nil, err
	}
	s := &Schema{types: map[string]schemaInfo{}, commands: map[string]schemaInfo{}}
	for _, i := range all {
		if i.Meta == "command" {
			s.commands[i.Name] = i
		} else {
			s.types[i.Name] = i
		}
	}
	return s, nil
}

// Has reports whether there is a command and, below its arguments, a path of
// members. An element that begins with '+' selects a variant:
//
//	Has("blockdev-add", "+copy-before-write", "on-cbw-error")
func (s *Schema) Has(command string, path ...string) bool {
	cmd, ok := s.commands[command]
	if !ok {
		return false
	}
	at := cmd.ArgType
	for _, step := range path {
		if at, ok = s.step(at, step); !ok {
			return false
		}
	}
	return true
}

func (s *Schema) step(from, step string) (to string, ok bool) {
	t := s.types[from]
	if kind, isVariant := strings.CutPrefix(step, "+"); isVariant {
		for _, v := range t.Variants {
			if v.Case == kind {
				return v.Type, true
			}
		}
		return "", false
	}
	for _, m := range t.Members {
		if m.Name == step {
			return m.Type, true
		}
	}
	return "", false
}
