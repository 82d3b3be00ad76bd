package tapefile

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Label names a tape. It is its first file.
type Label struct {
	UUID  uuid.UUID // of the medium
	Text  string    // printed on the cartridge: 2 to 32 characters of a safe-id
	Ctime int64     // when it was labelled
	Pool  string    // the one it is reserved for; "" for none
}

// Header returns the file of a label, with a random uuid, written at a time.
func (l Label) Header(id uuid.UUID, now int64) (Header, error) {
	if err := l.Check(); err != nil {
		return Header{}, err
	}
	js, err := canonjson.AppendIndent(nil, l.tree())
	return Header{Content: MediumLabel, UUID: id, Ctime: now, JSON: js}, err
}

// Check reports whether the fields are within their limits.
func (l Label) Check() error {
	if err := checkName("label", l.Text); err != nil {
		return err
	}
	if l.Pool == "" {
		return nil
	}
	return checkName("pool", l.Pool)
}

func (l Label) tree() map[string]any {
	t := map[string]any{"ctime": l.Ctime, "label_text": l.Text, "uuid": l.UUID.String()}
	if l.Pool != "" {
		t["pool"] = l.Pool
	}
	return t
}

// Label returns the label that is in a header.
func (h Header) Label() (Label, error) {
	o, err := h.object(MediumLabel)
	if err != nil {
		return Label{}, err
	}
	return o.label()
}

func (o *object) label() (Label, error) {
	l := Label{
		UUID:  o.uuid("uuid"),
		Text:  o.text("label_text"),
		Ctime: o.int("ctime"),
		Pool:  o.optional("pool"),
	}
	if o.err != nil {
		return Label{}, o.err
	}
	return l, l.Check()
}

// MarshalJSON implements json.Marshaler with the keys of the tape.
func (l Label) MarshalJSON() ([]byte, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	return canonjson.AppendCanonical(nil, l.tree())
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Label) UnmarshalJSON(b []byte) (err error) {
	o, err := parseObject("label", b)
	if err == nil {
		*l, err = o.label()
	}
	return err
}

// SetLabel says which media set a tape belongs to. It is its second file.
type SetLabel struct {
	Pool  string
	UUID  uuid.UUID // of the set; zero: kept for the pool, and empty
	Seq   uint64    // number of the tape in the set, from 0
	Ctime int64     // when the tape was added to the set
	// Key is the fingerprint of the key that all further files are encrypted
	// with; zero for none.
	Key chunkcrypt.Fingerprint
}

// Unassigned reports that the label says no more than the pool. Old versions
// reserved tapes this way.
func (l SetLabel) Unassigned() bool { return l.UUID == uuid.Nil }

// Header returns the file of a media-set label. keyFile is the key under its
// password (package keyfile) or nil.
func (l SetLabel) Header(id uuid.UUID, now int64, keyFile []byte) (Header, error) {
	if err := checkName("pool", l.Pool); err != nil {
		return Header{}, err
	}
	t := l.tree()
	if keyFile != nil {
		k, err := canonjson.Parse(keyFile)
		if err != nil {
			return Header{}, fmt.Errorf("key file for a media-set label: %w", err)
		}
		t["key-config"] = k
	}
	js, err := canonjson.AppendIndent(nil, t)
	return Header{Content: MediaSetLabel, UUID: id, Ctime: now, JSON: js}, err
}

func (l SetLabel) tree() map[string]any {
	t := map[string]any{"ctime": l.Ctime, "pool": l.Pool, "seq_nr": l.Seq, "uuid": l.UUID.String()}
	if !l.Key.IsZero() {
		t["encryption_key_fingerprint"] = l.Key.String()
	}
	return t
}

// SetLabel returns the media-set label that is in a header, and the key file
// beside it, nil if there is none. Nobody has looked into that file.
func (h Header) SetLabel() (l SetLabel, keyFile []byte, err error) {
	o, err := h.object(MediaSetLabel)
	if err != nil {
		return SetLabel{}, nil, err
	}
	if l, err = o.setLabel(); err != nil {
		return SetLabel{}, nil, err
	}
	if k := o.m["key-config"]; k != nil {
		if keyFile, err = canonjson.AppendIndent(nil, k); err != nil {
			return SetLabel{}, nil, fmt.Errorf("%w: key-config of a media-set label: %w", ErrFormat, err)
		}
	}
	return l, keyFile, nil
}

func (o *object) setLabel() (SetLabel, error) {
	l := SetLabel{
		Pool:  o.text("pool"),
		UUID:  o.uuid("uuid"),
		Seq:   o.uint("seq_nr"),
		Ctime: o.int("ctime"),
	}
	if s := o.optional("encryption_key_fingerprint"); s != "" && o.err == nil {
		var err error
		if l.Key, err = chunkcrypt.ParseFingerprint(s); err != nil {
			return SetLabel{}, fmt.Errorf("%w: %s: %w", ErrFormat, o.what, err)
		}
	}
	if o.err != nil {
		return SetLabel{}, o.err
	}
	return l, checkName("pool", l.Pool)
}

// MarshalJSON implements json.Marshaler with the keys of the tape.
func (l SetLabel) MarshalJSON() ([]byte, error) {
	if err := checkName("pool", l.Pool); err != nil {
		return nil, err
	}
	return canonjson.AppendCanonical(nil, l.tree())
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *SetLabel) UnmarshalJSON(b []byte) (err error) {
	o, err := parseObject("media-set label", b)
	if err == nil {
		*l, err = o.setLabel()
	}
	return err
}

// checkName checks what may name a tape or a pool. Both become parts of file
// names.
func checkName(what, s string) error {
	if len(s) < 2 || len(s) > 32 || !names.IsSafeID(s) {
		return fmt.Errorf("%w: %.40q cannot be a %s: 2 to 32 letters, digits, '.', '-' and '_', not beginning with '.' or '-'", ErrFormat, s, what)
	}
	return nil
}
