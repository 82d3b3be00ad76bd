package drive

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Drive is a drive. It is safe for concurrent use.
type Drive struct {
	cfg      Config
	id       spc.Identity
	answers  spc.Answers
	clock    Clock
	commands map[scsi.Opcode]command

	run sync.Mutex // held by the command that runs; guards what follows

	cart      *cartridge.Cartridge // nil: none in the drive
	threaded  bool
	pos       uint64 // number of the object that comes next
	attention spc.Attentions
	deferred  *scsi.Sense
	options   options
	crypt     encryption
	alerts    alerts
	usage     usage

	mu       sync.Mutex // guards activity, which is read while a command runs
	activity activity
}

var _ target.Unit = (*Drive)(nil)

// New makes a drive that was just switched on, without a cartridge.
func New(cfg Config) (*Drive, error) {
	if cfg.Generation < 4 || cfg.Generation > 10 {
		return nil, fmt.Errorf("a drive of generation %d: there are 4 to 10", cfg.Generation)
	}
	if len(cfg.Serial) == 0 || len(cfg.Serial) > 10 {
		return nil, fmt.Errorf("a drive with the serial number %q: 1 to 10 characters are needed", cfg.Serial)
	}
	d := &Drive{cfg: cfg, clock: cfg.Clock, answers: spc.Answers{Padded: cfg.Quirks.Padded}}
	if d.clock == nil {
		d.clock = realClock{}
	}
	d.id = identity(cfg)
	d.commands = d.table()
	d.switchOn()
	return d, nil
}

// switchOn is the state after power came.
func (d *Drive) switchOn() {
	d.deferred, d.pos = nil, 0
	d.update(func(a *activity) { a.prevented = false })
	d.options = defaults()
	d.crypt.clear()
	d.attention.Add(spc.PowerOn)
}

// Identity is who it says that it is.
func (d *Drive) Identity() (vendor, product, serial string) {
	return d.id.Vendor, d.id.Product, d.id.Serial
}

// command is one row of the table of commands.
type command struct {
	run    func(r *request) (int, error)
	medium bool // needs a threaded cartridge
}

// request is a command while it runs.
type request struct {
	cdb, out, in []byte
}

// Execute implements target.Unit.
func (d *Drive) Execute(cdb, out, in []byte) (int, error) {
	op := scsi.OpcodeOf(cdb)
	if len(cdb) == 0 || len(cdb) < spc.CDBSize(op) {
		return 0, spc.BadField()
	}
	r := &request{cdb, out, in}
	if !d.run.TryLock() {
		if n, err, done := d.meanwhile(op, r); done {
			return n, err
		}
		d.run.Lock()
	}
	defer d.run.Unlock()
	return d.execute(op, r)
}

// meanwhile answers what does not wait for the command that runs.
func (d *Drive) meanwhile(op scsi.Opcode, r *request) (n int, err error, done bool) {
	switch {
	case op == scsi.Inquiry:
		n, err = d.id.Inquiry(r.cdb, r.in, d.answers)
	case op == scsi.ReportLUNs:
		n, err = spc.ReportLUNs(r.cdb, r.in, d.answers)
	case op == scsi.LogSense && r.cdb[2]&0x3f == pageStatus:
		n, err = spc.LogSense(r.cdb, r.in, []spc.LogPage{{Code: pageStatus, Params: d.logStatus}}, d.answers)
	default:
		return 0, nil, false
	}
	return n, err, true
}

func (d *Drive) execute(op scsi.Opcode, r *request) (int, error) {
	d.settle()
	if !spc.Quiet(op) {
		if s := d.attention.Next(); s != nil {
			return 0, s
		}
		if s := d.deferred; s != nil {
			d.deferred = nil
			return 0, s
		}
	}
	c, known := d.commands[op]
	if !known {
		return 0, spc.BadOpcode()
	}
	if c.medium {
		if err := d.ready(); err != nil {
			return 0, err
		}
		d.await()
	}
	return c.run(r)
}

// table lists the commands.
func (d *Drive) table() map[scsi.Opcode]command {
	t := map[scsi.Opcode]command{
		scsi.TestUnitReady:             {run: d.testUnitReady},
		scsi.RequestSense:              {run: d.requestSense},
		scsi.Inquiry:                   {run: func(r *request) (int, error) { return d.id.Inquiry(r.cdb, r.in, d.answers) }},
		scsi.ReportLUNs:                {run: func(r *request) (int, error) { return spc.ReportLUNs(r.cdb, r.in, d.answers) }},
		scsi.ReadBlockLimits:           {run: d.readBlockLimits},
		scsi.Rewind:                    {run: d.rewind, medium: true},
		scsi.LoadUnload:                {run: d.loadUnload},
		scsi.PreventAllowMediumRemoval: {run: d.prevent},
		scsi.Read6:                     {run: d.read, medium: true},
		scsi.Write6:                    {run: d.write, medium: true},
		scsi.WriteFilemarks6:           {run: d.writeFilemarks, medium: true},
		scsi.Space6:                    {run: d.space, medium: true},
		scsi.Space16:                   {run: d.space, medium: true},
		scsi.Locate16:                  {run: d.locate, medium: true},
		scsi.ReadPosition:              {run: d.readPosition, medium: true},
		scsi.Erase:                     {run: d.erase, medium: true},
		scsi.ModeSense6:                {run: d.modeSense},
		scsi.ModeSelect6:               {run: d.modeSelect},
		scsi.LogSense:                  {run: d.logSense},
		scsi.ReadAttribute:             {run: d.readAttribute, medium: true},
		scsi.WriteAttribute:            {run: d.writeAttribute, medium: true},
		scsi.ReportDensitySupport:      {run: d.reportDensity},
	}
	if !d.cfg.Quirks.NoEncryption {
		t[scsi.SecurityProtocolIn] = command{run: d.securityIn}
		t[scsi.SecurityProtocolOut] = command{run: d.securityOut}
	}
	if d.cfg.Generation >= 5 {
		t[scsi.FormatMedium] = command{run: d.formatMedium, medium: true}
		t[scsi.ModeSense10] = command{run: d.modeSense}
		t[scsi.ModeSelect10] = command{run: d.modeSelect}
	}
	return t
}

// took says how long a part of the whole way takes.
func (d *Drive) windTime(from, to uint64) time.Duration {
	if d.cfg.Times.Wind == 0 || d.cart == nil {
		return 0
	}
	n := max(d.cart.Objects(), 1)
	return time.Duration(float64(d.cfg.Times.Wind) * float64(max(from, to)-min(from, to)) / float64(n))
}
