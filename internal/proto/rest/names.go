package rest

import (
	"maps"
	"slices"
)

// Names lists the parameters that are there, sorted.
func (p *Params) Names() []string { return slices.Sorted(maps.Keys(p.values)) }

// Texts returns what was given for a parameter; nil if it is not there.
func (p *Params) Texts(name string) []string { return p.values[name] }
