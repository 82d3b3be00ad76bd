package changer

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Changer is a changer. It is safe for concurrent use.
type Changer struct {
	cfg      Config
	id       spc.Identity
	answers  spc.Answers
	clock    Clock
	vault    Vault
	commands map[scsi.Opcode]func(r *request) (int, error)

	run sync.Mutex // held by the command that runs; guards what follows

	elements  []*element // by address
	prevented bool
	attention spc.Attentions
}

var _ target.Unit = (*Changer)(nil)

// New makes a changer that was just switched on, with media in its elements.
func New(cfg Config, v Vault, places []Place, media map[string]Medium) (*Changer, error) {
	c := &Changer{cfg: cfg, vault: v, clock: cfg.Clock, answers: spc.Answers{Padded: cfg.Quirks.Padded}}
	if c.clock == nil {
		c.clock = realClock{}
	}
	if len(cfg.Serial) == 0 || len(cfg.Serial) > 10 {
		return nil, fmt.Errorf("a changer with the serial number %q: 1 to 10 characters are needed", cfg.Serial)
	}
	var err error
	if c.elements, err = elements(cfg); err != nil {
		return nil, err
	}
	for _, p := range places {
		e, m := c.at(p.Address), media[p.Name]
		if e == nil || e.medium != nil || m.Name == "" {
			return nil, fmt.Errorf("cartridge %s cannot be at address %d", p.Name, p.Address)
		}
		e.medium, e.from = &m, p.From
	}
	c.id = identity(cfg)
	c.commands = c.table()
	c.attention.Add(spc.PowerOn)
	return c, nil
}

func identity(cfg Config) spc.Identity {
	or := func(s, otherwise string) string {
		if s != "" {
			return s
		}
		return otherwise
	}
	return spc.Identity{
		Type:     spc.Changer,
		Vendor:   or(cfg.Vendor, "HOLDFAST"),
		Product:  or(cfg.Product, "VTL"),
		Revision: or(cfg.Revision, "0100"),
		Serial:   cfg.Serial,
	}
}

type request struct{ cdb, out, in []byte }

// Execute implements target.Unit.
func (c *Changer) Execute(cdb, out, in []byte) (int, error) {
	op := scsi.OpcodeOf(cdb)
	if len(cdb) == 0 || len(cdb) < spc.CDBSize(op) {
		return 0, spc.BadField()
	}
	r := &request{cdb, out, in}
	switch op { // these do not wait for a move
	case scsi.Inquiry:
		return c.id.Inquiry(cdb, in, c.answers)
	case scsi.ReportLUNs:
		return spc.ReportLUNs(cdb, in, c.answers)
	}
	c.run.Lock()
	defer c.run.Unlock()
	if !spc.Quiet(op) {
		if s := c.attention.Next(); s != nil {
			return 0, s
		}
	}
	run, known := c.commands[op]
	if !known {
		return 0, spc.BadOpcode()
	}
	return run(r)
}

func (c *Changer) table() map[scsi.Opcode]func(r *request) (int, error) {
	nothing := func(*request) (int, error) { return 0, nil }
	t := map[scsi.Opcode]func(r *request) (int, error){
		scsi.TestUnitReady: nothing,
		scsi.RequestSense: func(r *request) (int, error) {
			return spc.RequestSense(r.cdb, r.in, c.attention.Next(), c.answers)
		},
		scsi.InitializeElementStatus:    c.initialize,
		scsi.InitializeElementWithRange: c.initialize,
		scsi.MoveMedium:                 c.moveMedium,
		scsi.ReadElementStatus:          c.readElementStatus,
		scsi.ModeSense6:                 c.modeSense,
		scsi.ModeSense10:                c.modeSense,
		scsi.LogSense: func(r *request) (int, error) {
			return spc.LogSense(r.cdb, r.in, []spc.LogPage{{Code: 0x2e, Params: logAlerts}}, c.answers)
		},
		scsi.PreventAllowMediumRemoval: c.prevent,
	}
	if !c.cfg.Quirks.NoPosition {
		t[scsi.PositionToElement] = c.position
	}
	return t
}

func (c *Changer) initialize(*request) (int, error) {
	c.clock.Sleep(c.cfg.Times.Inventory)
	return 0, nil
}

func (c *Changer) prevent(r *request) (int, error) {
	if r.cdb[4] > 1 {
		return 0, spc.BadField()
	}
	c.prevented = r.cdb[4] == 1
	return 0, nil
}

func (c *Changer) position(r *request) (int, error) {
	be := binary.BigEndian
	if err := c.checkTransport(be.Uint16(r.cdb[2:])); err != nil {
		return 0, err
	}
	if c.at(be.Uint16(r.cdb[4:])) == nil {
		return 0, noElement()
	}
	if r.cdb[8]&0x01 != 0 { // a transport that turns media over
		return 0, spc.BadField()
	}
	return 0, nil
}

func noElement() error { return spc.Sense(scsi.IllegalRequest, 0x2101) }

// checkTransport takes the transport, or 0 for whichever there is.
func (c *Changer) checkTransport(address uint16) error {
	if e := c.at(address); address != 0 && (e == nil || e.kind != transport) {
		return noElement()
	}
	return nil
}

// logAlerts are flags that are never up.
func logAlerts() (list []spc.Parameter) {
	for n := range uint16(64) {
		list = append(list, spc.Parameter{Code: n + 1, Control: 0x40, Value: []byte{0}})
	}
	return list
}

func (c *Changer) modeSense(r *request) (int, error) {
	addresses := make([]byte, 18)
	for i, k := range []kind{transport, storage, importExport, dataTransfer} {
		first, n := c.span(k)
		binary.BigEndian.PutUint16(addresses[4*i:], first)
		binary.BigEndian.PutUint16(addresses[4*i+2:], uint16(n))
	}
	able := make([]byte, 18)
	able[0] = 0x0e // drives, import and export, and slots hold media
	for i := 2; i < 6; i++ {
		able[i] = 0x0e // and media go from every element to those
	}
	return spc.ModeSense(r.cdb, r.in, 0, 0, nil, []spc.Page{
		{Code: 0x1d, Body: addresses},
		{Code: 0x1e, Body: make([]byte, 2)}, // the transport does not turn media over
		{Code: 0x1f, Body: able},
	}, c.answers)
}

// span is the first address and the number of the elements of a kind.
func (c *Changer) span(k kind) (first uint16, n int) {
	for _, e := range c.elements {
		if e.kind == k {
			if n == 0 {
				first = e.address
			}
			n++
		}
	}
	return first, n
}
