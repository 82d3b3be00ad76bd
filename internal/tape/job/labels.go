package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// ErrEmpty is wrapped for a medium on which nothing was written.
var ErrEmpty = errors.New("the medium is empty")

// Labels is what a medium says of itself.
type Labels struct {
	Medium tapefile.Label
	Set    *tapefile.SetLabel // nil: it belongs to no media set
	Key    []byte             // the key of the set under its password, or nil
}

// ReadLabels reads the first two files, which leaves the drive anywhere in the
// second. It fails with ErrEmpty where nothing was written, and with
// tape.ErrForeign where somebody else wrote.
func ReadLabels(ctx context.Context, d tape.Drive) (Labels, error) {
	if err := d.Rewind(ctx); err != nil {
		return Labels{}, err
	}
	h, err := readLabel(d)
	if errors.Is(err, tape.ErrEndOfData) || errors.Is(err, tape.ErrFilemark) {
		return Labels{}, ErrEmpty
	}
	if err != nil {
		return Labels{}, fmt.Errorf("label: %w", foreign(err))
	}
	var l Labels
	if l.Medium, err = h.Label(); err != nil {
		return Labels{}, fmt.Errorf("label: %w", foreign(err))
	}
	h, err = readLabel(d)
	if errors.Is(err, tape.ErrEndOfData) {
		return l, nil
	}
	if err != nil {
		return Labels{}, fmt.Errorf("media-set label of %s: %w", l.Medium.Text, err)
	}
	set, key, err := h.SetLabel()
	if err != nil {
		return Labels{}, fmt.Errorf("media-set label of %s: %w", l.Medium.Text, err)
	}
	if !set.Unassigned() {
		l.Set, l.Key = &set, key
	} else if l.Medium.Pool == "" {
		l.Medium.Pool = set.Pool // how old versions reserved media
	}
	return l, nil
}

// foreign marks a first file that is of no label as somebody else's.
func foreign(err error) error {
	if errors.Is(err, tapefile.ErrFormat) && !errors.Is(err, tape.ErrForeign) {
		return fmt.Errorf("%w: %w", tape.ErrForeign, err)
	}
	return err
}

// readLabel reads a file that is only a header, to its end.
func readLabel(d tape.Drive) (tapefile.Header, error) {
	r, err := tape.NewReader(d)
	if err != nil {
		return tapefile.Header{}, err
	}
	h, err := tapefile.ReadHeader(r)
	if err == nil {
		var one [1]byte
		if n, rerr := r.Read(one[:]); n > 0 {
			err = fmt.Errorf("%w: bytes behind it", tapefile.ErrFormat)
		} else {
			err = ended(rerr)
		}
	}
	return h, errors.Join(err, r.Close())
}

// writeFile writes a file that is only a header.
func writeFile(d tape.Drive, h tapefile.Header) error {
	b, err := h.Append(nil)
	if err != nil {
		return err
	}
	w, err := tape.NewWriter(d, tape.GiveUp)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Finish(false)
}

// WriteSetLabel makes a medium, which has a label, an empty one of a media set.
// key is the key of the set under its password, or nil. Nothing else stays on it.
func WriteSetLabel(ctx context.Context, d tape.Drive, set tapefile.SetLabel, key []byte, now time.Time) error {
	if err := plain(ctx, d); err != nil {
		return err
	}
	if err := d.Locate(ctx, 1); err != nil {
		return err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	h, err := set.Header(id, now.Unix(), key)
	if err != nil {
		return err
	}
	if err := writeFile(d, h); err != nil {
		return fmt.Errorf("media-set label: %w", err)
	}
	return d.Sync(ctx)
}

// plain switches encryption off, where there is any.
func plain(ctx context.Context, d tape.Drive) error {
	if err := d.Encrypt(ctx, nil); err != nil && !errors.Is(err, tape.ErrUnsupported) {
		return err
	}
	return nil
}

// writeLabel makes an empty medium a labelled one.
func writeLabel(ctx context.Context, d tape.Drive, text, pool string, now time.Time) (l tapefile.Label, err error) {
	l = tapefile.Label{Text: text, Pool: pool, Ctime: now.Unix()}
	if l.UUID, err = uuid.NewRandom(); err != nil {
		return l, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return l, err
	}
	h, err := l.Header(id, now.Unix())
	if err != nil {
		return l, err
	}
	if err := plain(ctx, d); err != nil {
		return l, err
	}
	if err := d.Format(ctx, true); err != nil {
		return l, err
	}
	if err := writeFile(d, h); err != nil {
		return l, fmt.Errorf("label: %w", err)
	}
	return l, d.Sync(ctx)
}

// sortedLabels sorts label texts, each once, without those of cleaning media.
func sortedLabels(list []string) []string {
	list = slices.DeleteFunc(slices.Clone(list), IsCleaning)
	slices.Sort(list)
	return slices.Compact(list)
}

// IsCleaning reports whether a label is that of a cleaning cartridge.
func IsCleaning(label string) bool { return strings.HasPrefix(label, "CLN") }
