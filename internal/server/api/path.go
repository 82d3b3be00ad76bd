package api

import (
	"net/http"
	"slices"
	"strings"
)

// node is a place in the tree of paths.
type node struct {
	methods  map[string]*Call
	names    map[string]*node
	variable *node  // what a component of any name leads to
	called   string // the variable's name
}

func (n *node) add(c *Call) {
	wanted := map[string]bool{}
	for part := range strings.SplitSeq(strings.TrimPrefix(c.Path, "/"), "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			if n.variable == nil {
				n.variable, n.called = new(node), name
			}
			if n.called != name {
				c.broken("{%s} is called {%s} in another call", name, n.called)
			}
			wanted[name] = true
			n = n.variable
			continue
		}
		next := n.names[part]
		if next == nil {
			next = new(node)
			if n.names == nil {
				n.names = map[string]*node{}
			}
			n.names[part] = next
		}
		n = next
	}
	if n.methods == nil {
		n.methods = map[string]*Call{}
	}
	if n.methods[c.Method] != nil {
		c.broken("there are two")
	}
	n.methods[c.Method] = c
	for _, p := range c.Params {
		delete(wanted, p.Spec().Name)
	}
	for name := range wanted {
		c.broken("{%s} is no parameter", name)
	}
	if c.Guard == nil || c.Do.do == nil && c.Do.list == nil && c.Do.serve == nil {
		c.broken("guard or handler is missing")
	}
}

// Find returns the call that a method and the components below the format mean,
// and the values of the path's variables. It is nil if there is none.
func (t *Table) Find(method string, parts []string) (*Call, map[string]string) {
	vars := map[string]string{}
	n := &t.root
	for _, part := range parts {
		next := n.names[part]
		if next == nil && n.variable != nil {
			next = n.variable
			vars[n.called] = part
		}
		if next == nil {
			return nil, nil
		}
		n = next
	}
	c := n.methods[method]
	if c == nil && method == http.MethodHead {
		// Not where the work would be done to throw its result away.
		if get := n.methods[http.MethodGet]; get != nil && get.Do.serve == nil {
			c = get
		}
	}
	return c, vars
}

// variables lists the names in braces of a path.
func variables(path string) []string {
	var list []string
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			list = append(list, strings.TrimSuffix(name, "}"))
		}
	}
	return list
}

func isVariable(c *Call, name string) bool { return slices.Contains(variables(c.Path), name) }
