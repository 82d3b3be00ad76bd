package libvirt

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// Options says how points of a domain are taken. Directories are required.
type Options struct {
	// RunDir is for sockets and locks; QEMU's user must be able to reach it.
	RunDir string
	// ScratchDir takes what the guest overwrites during a backup: at worst as
	// much as its disks.
	ScratchDir string
	// Reserve is the space in bytes that must be left in ScratchDir; 0: 1 GiB.
	Reserve int64
	// SwtpmDir is where the state of emulated TPMs lies; empty: libvirt's place.
	SwtpmDir string
	// Limit bounds the bytes of all scratch files of a point; 0: only Reserve does.
	Limit int64
	// Disks are the targets of all disks that are wanted; nil: all that hold
	// something. Skip are left out.
	Disks, Skip []string
	// AbortJob aborts a backup job that is in the way, whoever began it.
	AbortJob bool
	// MustFreeze fails a point of a running domain whose file systems could not
	// be frozen.
	MustFreeze bool
	// QemuImg is the program for bitmaps of domains that are shut down; empty:
	// the one in PATH.
	QemuImg string
	// Log hears of what a person should know; nil: nobody.
	Log *slog.Logger
}

const (
	defaultReserve  = 1 << 30
	defaultSwtpmDir = "/var/lib/libvirt/swtpm"
	defaultQemuImg  = "qemu-img"
)

func (o Options) filled() Options {
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.SwtpmDir == "" {
		o.SwtpmDir = defaultSwtpmDir
	}
	if o.QemuImg == "" {
		o.QemuImg = defaultQemuImg
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Info is a domain in a listing.
type Info struct {
	Name, UUID string
	State      string // in libvirt's words: "running", "shut off", ...
	Persistent bool   // it stays when it is shut down
	Disks      []DiskInfo
}

// DiskInfo is a disk in a listing.
type DiskInfo struct {
	domxml.Disk
	Size int64 // bytes; 0: libvirt cannot say
}

// List lists all domains.
func (c *Conn) List(ctx context.Context) ([]Info, error) {
	doms, _, err := c.l.ConnectListAllDomains(1, 0)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	var all []Info
	for _, dom := range doms {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		info, err := c.info(dom)
		if is(err, lv.ErrNoDomain) { // gone since
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("domain %s: %w", dom.Name, err)
		}
		all = append(all, info)
	}
	return all, nil
}

func (c *Conn) info(dom lv.Domain) (Info, error) {
	state, _, err := c.l.DomainGetState(dom, 0)
	if err != nil {
		return Info{}, err
	}
	persistent, err := c.l.DomainIsPersistent(dom)
	if err != nil {
		return Info{}, err
	}
	def, err := c.definition(dom, 0)
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: dom.Name, UUID: formatUUID(dom.UUID), State: stateName(state), Persistent: persistent != 0}
	for _, d := range def.Disks() {
		size := uint64(0)
		if d.Holds() {
			_, size, _, _ = c.l.DomainGetBlockInfo(dom, d.Target, 0) // a file that is not here has none
		}
		info.Disks = append(info.Disks, DiskInfo{d, int64(size)}) //nolint:gosec // below what a disk can have
	}
	return info, nil
}

// states are the words of "virsh list", by number.
var states = [...]string{"no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "suspended"}

func stateName(s int32) string {
	if s < 0 || int(s) >= len(states) {
		return fmt.Sprintf("state %d", s)
	}
	return states[s]
}

// Guest is a domain as the backend of a backup.
type Guest struct {
	c    *Conn
	dom  lv.Domain
	opts Options
}

var _ guest.Backend = (*Guest)(nil)

// Guest finds a domain by its name or UUID.
func (c *Conn) Guest(name string, opts Options) (*Guest, error) {
	dom, err := c.lookup(name)
	if err != nil {
		return nil, err
	}
	return &Guest{c, dom, opts.filled()}, nil
}

func (c *Conn) lookup(name string) (lv.Domain, error) {
	dom, err := c.l.DomainLookupByName(name)
	if id, ok := parseUUID(name); ok && is(err, lv.ErrNoDomain) {
		dom, err = c.l.DomainLookupByUUID(id)
	}
	switch {
	case is(err, lv.ErrNoDomain):
		return lv.Domain{}, fmt.Errorf("%w: %s", ErrNoDomain, name)
	case err != nil:
		return lv.Domain{}, fmt.Errorf("look for domain %s: %w", name, err)
	}
	return dom, nil
}

// Name is the domain's.
func (g *Guest) Name() string { return g.dom.Name }

// UUID is the domain's.
func (g *Guest) UUID() string { return formatUUID(g.dom.UUID) }

// Begin takes a point; see the package comment.
func (g *Guest) Begin(ctx context.Context, req guest.Request) (_ guest.Point, err error) {
	site, err := g.enter(req.Owner)
	if err != nil {
		return nil, err
	}
	active, err := g.active()
	if err != nil {
		return nil, site.leave(err)
	}
	if active {
		return g.beginRunning(ctx, req, site)
	}
	return g.beginStopped(ctx, req, site)
}

func (g *Guest) active() (bool, error) {
	is, err := g.c.l.DomainIsActive(g.dom)
	if err != nil {
		return false, fmt.Errorf("state of domain %s: %w", g.dom.Name, err)
	}
	return is != 0, nil
}

func (c *Conn) definition(dom lv.Domain, flags lv.DomainXMLFlags) (*domxml.Domain, error) {
	text, err := c.l.DomainGetXMLDesc(dom, flags)
	if err != nil {
		return nil, fmt.Errorf("definition of domain %s: %w", dom.Name, err)
	}
	return domxml.Parse(text)
}

// scratch is the scratch file of a disk.
func (g *Guest) scratch(owner guest.Owner, target string) string {
	return filepath.Join(g.opts.ScratchDir, guest.Prefix+string(owner)+"-"+g.UUID()+"-"+target+".qcow2")
}

// diskPrefix begins the names of disks, as in archives of Proxmox VE.
const diskPrefix = "drive-"

func formatUUID(u lv.UUID) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func parseUUID(s string) (lv.UUID, bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(lv.UUID{}) {
		return lv.UUID{}, false
	}
	return lv.UUID(b), true
}
