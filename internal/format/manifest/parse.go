package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
)

// Keys of the top level that are not signed.
const (
	keySignature   = "signature"
	keyUnprotected = "unprotected"
)

// signedPart is the object that a signature covers, together with the fields
// that it was read into or built from.
type signedPart struct {
	object map[string]any
	typ    string
	id     string
	time   int64
	files  []File
}

// Parse reads the JSON of a manifest. It does not look at the signature beyond
// its form: that needs the key, see [Manifest.Verify].
func Parse(b []byte) (*Manifest, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(b), MaxSize)
	}
	v, err := canonjson.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	top, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not an object", ErrFormat)
	}
	m := &Manifest{}
	if m.Signature, err = parseSignature(top); err != nil {
		return nil, err
	}
	m.values = map[string]any{}
	if v, ok := top[keyUnprotected]; ok {
		if m.values, ok = v.(map[string]any); !ok {
			return nil, fmt.Errorf("%w: unprotected is not an object", ErrFormat)
		}
	}
	signed := maps.Clone(top)
	delete(signed, keySignature)
	delete(signed, keyUnprotected)
	if err := m.parseSigned(signed); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	m.remember(signed)
	return m, nil
}

// parseSignature takes any text: some programs write signatures in forms of
// their own, which only matters to who verifies one.
func parseSignature(top map[string]any) (string, error) {
	v := top[keySignature]
	if v == nil { // null, or absent in very old ones
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%w: signature: want a string or null", ErrFormat)
	}
	return s, nil
}

func (m *Manifest) parseSigned(o map[string]any) (err error) {
	if m.BackupType, err = text(o, "backup-type"); err != nil {
		return err
	}
	if m.BackupID, err = text(o, "backup-id"); err != nil {
		return err
	}
	t, ok := o["backup-time"].(json.Number)
	if m.BackupTime, err = strconv.ParseInt(string(t), 10, 64); !ok || err != nil {
		return fmt.Errorf("%w: backup-time: want an integer", ErrFormat)
	}
	list, ok := o["files"].([]any)
	if !ok {
		return fmt.Errorf("%w: files: want an array", ErrFormat)
	}
	m.Files = make([]File, len(list))
	for i, v := range list {
		if m.Files[i], err = parseFile(v); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
	}
	return nil
}

func parseFile(v any) (f File, err error) {
	o, ok := v.(map[string]any)
	if !ok {
		return File{}, fmt.Errorf("%w: want an object", ErrFormat)
	}
	if f.Filename, err = text(o, "filename"); err != nil {
		return File{}, err
	}
	f.CryptMode = ModeNone
	if _, ok := o["crypt-mode"]; ok {
		s, err := text(o, "crypt-mode")
		if err != nil {
			return File{}, err
		}
		if f.CryptMode, err = ParseCryptMode(s); err != nil {
			return File{}, err
		}
	}
	n, ok := o["size"].(json.Number)
	if f.Size, err = strconv.ParseUint(string(n), 10, 63); !ok || err != nil {
		return File{}, fmt.Errorf("%w: size: want an integer from 0 to 2^63-1", ErrFormat)
	}
	sum, err := text(o, "csum")
	if err != nil {
		return File{}, err
	}
	if f.Csum, err = digest.Parse(sum); err != nil {
		return File{}, fmt.Errorf("%w: csum: %w", ErrFormat, err)
	}
	return f, nil
}

func text(o map[string]any, key string) (string, error) {
	s, ok := o[key].(string)
	if !ok {
		return "", fmt.Errorf("%w: %s: want a string", ErrFormat, key)
	}
	return s, nil
}

// Marshal returns the JSON text. It refuses what Parse would, and a manifest
// that was changed after it was signed.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if m.Signature != "" && m.changed() {
		return nil, fmt.Errorf("%w: it was changed after it was signed", ErrSignature)
	}
	top := maps.Clone(m.object())
	top[keySignature] = nil
	if m.Signature != "" {
		top[keySignature] = m.Signature
	}
	top[keyUnprotected] = map[string]any{}
	if m.values != nil {
		top[keyUnprotected] = m.values
	}
	b, err := canonjson.AppendIndent(nil, top)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(b), MaxSize)
	}
	return b, nil
}

// object returns the part that a signature covers: as it was read if the
// fields still say the same, else built from them.
func (m *Manifest) object() map[string]any {
	if !m.changed() {
		return m.signed.object
	}
	return m.build()
}

func (m *Manifest) build() map[string]any {
	files := make([]any, len(m.Files))
	for i, f := range m.Files {
		files[i] = map[string]any{
			"filename":   f.Filename,
			"crypt-mode": string(f.CryptMode),
			"size":       f.Size,
			"csum":       f.Csum.String(),
		}
	}
	return map[string]any{
		"backup-type": m.BackupType,
		"backup-id":   m.BackupID,
		"backup-time": m.BackupTime,
		"files":       files,
	}
}

// changed reports whether the fields differ from the object that was read or
// signed.
func (m *Manifest) changed() bool {
	s := m.signed
	return s == nil || s.typ != m.BackupType || s.id != m.BackupID || s.time != m.BackupTime || !slices.Equal(s.files, m.Files)
}

// remember keeps the object that the fields stand for.
func (m *Manifest) remember(object map[string]any) {
	m.signed = &signedPart{object, m.BackupType, m.BackupID, m.BackupTime, slices.Clone(m.Files)}
}
