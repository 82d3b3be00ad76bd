package nbdserver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// exportName is the oldest way to choose an export. It cannot be refused.
func (c *conn) exportName(data []byte) error {
	name, err := nbd.ParseString(data)
	if err != nil {
		return err
	}
	x := c.s.find(name)
	switch {
	case c.hand.extended:
		return fmt.Errorf("EXPORT_NAME after EXTENDED_HEADERS")
	case x == nil:
		return fmt.Errorf("no export is named %q", name)
	}
	c.exp = x
	c.hand.reply = nbd.AppendExportNameReply(c.hand.reply, uint64(x.size), x.flags(c.hand.dialect()), c.hand.noZeroes)
	return c.sendReply()
}

func (c *conn) list(data []byte) error {
	if len(data) > 0 {
		return refuseWith(nbd.RepErrInvalid, "LIST has no data")
	}
	for _, x := range c.s.exports {
		e := nbd.Server{Name: x.Name, Description: x.Description}.Append(nil)
		c.hand.reply = nbd.AppendOptionReply(c.hand.reply, nbd.OptList, nbd.RepServer, e)
	}
	return c.acknowledge(nbd.OptList)
}

// info answers INFO and GO.
func (c *conn) info(o nbd.Option, data []byte) error {
	r, err := nbd.ParseInfoRequest(data)
	if err != nil {
		return refuseWith(nbd.RepErrInvalid, err.Error())
	}
	x := c.s.find(r.Export)
	if x == nil {
		return refuseWith(nbd.RepErrUnknown, c.unknown(r.Export))
	}
	add := func(i nbd.Info) {
		c.hand.reply = nbd.AppendOptionReply(c.hand.reply, o, nbd.RepInfo, i.Append(nil))
	}
	if x.Name != r.Export || slices.Contains(r.Infos, nbd.InfoName) {
		add(nbd.Info{Type: nbd.InfoName, Text: x.Name})
	}
	if x.Description != "" && slices.Contains(r.Infos, nbd.InfoDescription) {
		add(nbd.Info{Type: nbd.InfoDescription, Text: x.Description})
	}
	add(nbd.Info{Type: nbd.InfoBlockSize, Sizes: x.blockSizes()})
	add(nbd.Info{Type: nbd.InfoExport, Size: uint64(x.size), Flags: x.flags(c.hand.dialect())})
	if o == nbd.OptGo {
		c.exp = x
	}
	return c.acknowledge(o)
}

func (c *conn) unknown(name string) string {
	if name == "" {
		return fmt.Sprintf("there are %d exports and none is the default: give a name", len(c.s.exports))
	}
	return fmt.Sprintf("no export is named %q", name)
}

// dialect answers STRUCTURED_REPLY and EXTENDED_HEADERS.
func (c *conn) dialect(o nbd.Option, data []byte) error {
	h := &c.hand
	switch {
	case len(data) > 0:
		return refuseWith(nbd.RepErrInvalid, o.String()+" has no data")
	case h.extended && o == nbd.OptStructuredReply:
		return refuseWith(nbd.RepErrExtHeaderReqd, "extended headers are agreed on already")
	case h.extended, h.structured && o == nbd.OptStructuredReply:
		return refuseWith(nbd.RepErrInvalid, o.String()+" is agreed on already")
	case o == nbd.OptExtendedHeaders:
		h.extended = true
	default:
		h.structured = true
	}
	return c.acknowledge(o)
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (c *conn) metaContext(o nbd.Option, data []byte) error {
	set := o == nbd.OptSetMetaContext
	if set { // whatever comes of it, the old selection is gone
		c.hand.meta, c.hand.metas = nil, nil
	}
	r, err := nbd.ParseMetaRequest(data)
	if err != nil {
		return refuseWith(nbd.RepErrInvalid, err.Error())
	}
	if set && c.hand.dialect() == nbd.Simple {
		return refuseWith(nbd.RepErrInvalid, "metadata contexts need structured replies or extended headers")
	}
	x := c.s.find(r.Export)
	if x == nil {
		return refuseWith(nbd.RepErrUnknown, c.unknown(r.Export))
	}
	var chosen []selected
	for i, m := range x.contexts {
		wanted := slices.Contains(r.Queries, m.Name()) ||
			!set && (len(r.Queries) == 0 || slices.ContainsFunc(r.Queries, func(q string) bool {
				return strings.HasSuffix(q, ":") && strings.HasPrefix(m.Name(), q)
			}))
		if !wanted {
			continue
		}
		chosen = append(chosen, selected{uint32(i), m})
		p := nbd.MetaContext{ID: uint32(i), Name: m.Name()}.Append(nil)
		c.hand.reply = nbd.AppendOptionReply(c.hand.reply, o, nbd.RepMetaContext, p)
	}
	if set {
		c.hand.meta, c.hand.metas = x, chosen
	}
	return c.acknowledge(o)
}
