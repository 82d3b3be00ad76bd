package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// poolSet is the media set of a pool that a backup goes on with.
type poolSet struct {
	state   *media.State
	w       *media.Writing
	station *Station
	keyFile func(chunkcrypt.Fingerprint) ([]byte, error)
	now     func() time.Time
	logf    func(format string, args ...any)
	warnf   func(format string, args ...any)

	namespaces bool // the catalog may name snapshots of namespaces
	contents   *media.Contents
	catalogs   []*media.Catalog // open, and followed by contents
}

var _ set = (*poolSet)(nil)

// load reads the catalogs of the media that the set has.
func (p *poolSet) load() error {
	list, err := p.w.Media()
	if err != nil {
		return err
	}
	var last *media.Medium // its catalog may grow
	if n := len(list); n > 0 {
		last, list = &list[n-1], list[:n-1]
	}
	if p.contents, err = p.state.Contents(list); err != nil {
		return readAgain(err)
	}
	for _, cut := range p.contents.Cuts() {
		p.warnf("%v; %d bytes are left out", cut.Err, cut.Bytes)
	}
	if last == nil {
		return nil
	}
	c, cut, err := p.state.OpenCatalog(*last)
	if err != nil {
		return readAgain(err)
	}
	if cut.Bytes > 0 {
		p.warnf("catalog of %s: %v; %d bytes are cut off", last.Label.Text, cut.Err, cut.Bytes)
	}
	return p.follow(c)
}

// readAgain says what helps against a catalog that cannot be used.
func readAgain(err error) error {
	return fmt.Errorf("%w; read it from the medium with tape catalog", err)
}

// follow takes in what a catalog has, and all that is added to it.
func (p *poolSet) follow(c *media.Catalog) error {
	p.catalogs = append(p.catalogs, c)
	return p.contents.Follow(c)
}

// newest is the catalog of the medium that was written last; nil if there is none.
func (p *poolSet) newest() *media.Catalog {
	if len(p.catalogs) == 0 {
		return nil
	}
	return p.catalogs[len(p.catalogs)-1]
}

// close lets go of all catalogs. What was not committed of them is dropped.
func (p *poolSet) close() error {
	var errs []error
	if p.contents != nil {
		errs = append(errs, p.contents.Close())
	}
	for _, c := range p.catalogs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (p *poolSet) Known(store string, d digest.Digest) (bool, error) {
	_, ok, err := p.contents.Chunk(store, d)
	return ok, err
}

func (p *poolSet) Holds(store string, s names.Snapshot) (bool, error) {
	_, ok, err := p.contents.Snapshot(store, s)
	return ok, err
}

// Next opens the medium to write on.
func (p *poolSet) Next(ctx context.Context) (*medium, bool, error) {
	for {
		before, err := p.state.Inventory()
		if err != nil {
			return nil, false, err
		}
		m, added, err := p.w.Next(ctx, p.now())
		if err != nil {
			return nil, false, err
		}
		if added {
			p.logf("media set %s goes on with medium %s as its number %d", p.w.Set(), m.Label.Text, m.Set.Seq+1)
		}
		d, l, err := p.station.Load(ctx, m.Label.Text, m.UUID())
		if err != nil {
			return nil, false, err
		}
		was, _ := before.Find(m.UUID())
		opened, fresh, err := p.open(ctx, d, m, was, l)
		if err == nil {
			return opened, fresh, nil
		}
		err = errors.Join(err, d.Close())
		if !errors.Is(err, errProtected) {
			return nil, false, err
		}
		// Somebody used the medium in between. What it holds goes into the
		// inventory, and the pool gives another one.
		p.warnf("%v", err)
		if err := p.state.Store(ctx, l.Medium, l.Set, false); err != nil {
			return nil, false, err
		}
	}
}

// errProtected is wrapped for a medium that holds more than the inventory knew.
var errProtected = errors.New("it belongs to a media set that the inventory did not know, and is not overwritten")

// open makes a medium ready for its first archive. was is what the inventory knew
// of it before it was chosen, l what it says of itself.
func (p *poolSet) open(ctx context.Context, d tape.Drive, m, was media.Medium, l Labels) (*medium, bool, error) {
	if err := p.checkAlerts(ctx, d, m); err != nil {
		return nil, false, err
	}
	same := l.Set != nil && l.Set.UUID == m.Set.UUID
	if same && (l.Set.Seq != m.Set.Seq || l.Set.Key != m.Set.Key) {
		return nil, false, fmt.Errorf("medium %s is number %d of the media set, with key %s, and the inventory has it as number %d with key %s",
			m.Label.Text, l.Set.Seq+1, keyText(l.Set.Key), m.Set.Seq+1, keyText(m.Set.Key))
	}
	if !same && l.Set != nil && newer(l.Set, was) {
		return nil, false, fmt.Errorf("medium %s: %w", m.Label.Text, errProtected)
	}
	o := &medium{label: m.Label, drive: d, now: p.now, next: firstArchive, used: func(n int64) error {
		return p.state.SetUsed(ctx, m.UUID(), &n)
	}}
	c, err := p.catalogFor(m)
	if err != nil {
		return nil, false, err
	}
	o.catalog = c
	switch {
	case same:
		err = p.resume(ctx, o, m)
	case c.NextFile() > firstArchive:
		err = errors.Join(fmt.Errorf("medium %s has lost the backups that its catalog names; it is marked as damaged, and the next backup begins a new media set", m.Label.Text),
			p.state.SetStatus(ctx, m.UUID(), media.Damaged))
	default:
		err = p.start(ctx, o, m)
	}
	if err != nil {
		return nil, false, err
	}
	fresh := o.next == firstArchive
	if fresh && m.Set.Seq > 0 {
		err = p.earlier(o, m)
	}
	return o, fresh, err
}

// catalogFor returns the open catalog of a medium.
func (p *poolSet) catalogFor(m media.Medium) (*media.Catalog, error) {
	if c := p.newest(); c != nil && c.Medium().UUID() == m.UUID() {
		return c, nil
	}
	c, _, err := p.state.OpenCatalog(m) // it is empty: nothing can be cut off
	if err != nil {
		return nil, err
	}
	return c, p.follow(c)
}

// newer reports whether a media-set label is one that the inventory cannot have
// known when it gave the medium away.
func newer(on *tapefile.SetLabel, was media.Medium) bool {
	if was.Set == nil {
		return on.Ctime > was.Label.Ctime
	}
	return on.UUID != was.Set.UUID && on.Ctime > was.Set.Ctime
}

// checkAlerts refuses a medium, and marks it as damaged, if the drive tells of
// something that threatens data.
func (p *poolSet) checkAlerts(ctx context.Context, d tape.Drive, m media.Medium) error {
	a, ok := d.(tape.Alerter)
	if !ok {
		return nil
	}
	alerts, err := a.Alerts(ctx)
	if errors.Is(err, tape.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	text := critical(alerts)
	if text == "" {
		return nil
	}
	if err := p.state.SetStatus(ctx, m.UUID(), media.Damaged); err != nil {
		return err
	}
	return fmt.Errorf("medium %s: the drive tells of %s; the medium is marked as damaged", m.Label.Text, text)
}

// start gives a medium its media-set label.
func (p *poolSet) start(ctx context.Context, o *medium, m media.Medium) error {
	p.logf("writing new media set label to medium %s", m.Label.Text)
	var key []byte
	var err error
	if !m.Set.Key.IsZero() {
		if key, err = p.keyFile(m.Set.Key); err != nil {
			return err
		}
	}
	if err := WriteSetLabel(ctx, o.drive, *m.Set, key, p.now()); err != nil {
		return fmt.Errorf("medium %s: %w", m.Label.Text, err)
	}
	if marker, ok := o.drive.(tape.Marker); ok {
		if err := marker.Mark(ctx, m.Label.Text, m.Set.Pool); err != nil {
			p.warnf("memory of cartridge %s: %v", m.Label.Text, err) // nothing depends on it
		}
	}
	return encrypt(ctx, o.drive, m.Set)
}

// resume goes behind the last file of a medium of the set.
func (p *poolSet) resume(ctx context.Context, o *medium, m media.Medium) error {
	if err := encrypt(ctx, o.drive, m.Set); err != nil {
		return err
	}
	next, err := o.drive.EndOfData(ctx)
	if err != nil {
		return fmt.Errorf("medium %s: %w", m.Label.Text, err)
	}
	if next < max(firstArchive, o.catalog.NextFile()) {
		return fmt.Errorf("medium %s has %d files, and its catalog names more; read the catalog from the medium with tape catalog --force", m.Label.Text, next)
	}
	o.next = next
	return nil
}

// encrypt makes the drive use the key of a media set, or none.
func encrypt(ctx context.Context, d tape.Drive, set *tapefile.SetLabel) error {
	if set == nil || set.Key.IsZero() {
		return plain(ctx, d)
	}
	return d.Encrypt(ctx, &tape.KeyOf{Fingerprint: set.Key, MediaSet: set.UUID})
}

// earlier writes the catalogs of the media before this one.
func (p *poolSet) earlier(o *medium, m media.Medium) error {
	list, err := p.w.Media()
	if err != nil {
		return err
	}
	for _, e := range list[:m.Set.Seq] {
		p.logf("writing catalog of medium %s", e.Label.Text)
		if err := p.catalogTo(o, e); err != nil {
			if errors.Is(err, errFull) {
				err = fmt.Errorf("medium %s: the catalogs of the media set do not fit on it: %w", m.Label.Text, errSmall)
			}
			return err
		}
	}
	return nil
}

func (p *poolSet) catalogTo(o *medium, of media.Medium) (err error) {
	content, _, err := p.state.Log(of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return o.catalogArchive(tapefile.CatalogArchive{Medium: of.UUID(), MediaSet: of.Set.UUID, Seq: of.Set.Seq}, p.namespaces, io.Reader(content))
}

func (p *poolSet) Full(m *medium) error {
	return p.state.SetStatus(context.Background(), m.label.UUID, media.Full)
}

func (p *poolSet) CatalogOf(m *medium) error {
	p.logf("writing catalog to medium %s", m.label.Text)
	return p.catalogTo(m, p.newest().Medium())
}

func keyText(f chunkcrypt.Fingerprint) string {
	if f.IsZero() {
		return "none"
	}
	return f.String()
}
