package keyfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Parse reads a key file. White space around it is accepted.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(b), MaxSize)
	}
	v, err := canonjson.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: not JSON with one value for each key", ErrFormat) // the cause might quote the key
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not an object", ErrFormat)
	}
	f := &File{}
	if f.kdf, err = parseKDF(o["kdf"]); err != nil {
		return nil, err
	}
	if f.Created, err = parseTime(o, "created"); err != nil {
		return nil, err
	}
	if f.Modified, err = parseTime(o, "modified"); err != nil {
		return nil, err
	}
	if f.data, err = parseBase64(o, "data"); err != nil {
		return nil, err
	}
	want := sealedSize
	if f.kdf.name == KDFNone {
		want = chunkcrypt.KeySize
	}
	if len(f.data) != want {
		return nil, fmt.Errorf("%w: data has %d bytes, want %d", ErrFormat, len(f.data), want)
	}
	if v := o["fingerprint"]; v != nil {
		s, _ := v.(string)
		if f.Fingerprint, err = chunkcrypt.ParseFingerprint(s); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
	f.named = o["fingerprint"] != nil
	if v := o["hint"]; v != nil {
		if f.Hint, ok = v.(string); !ok {
			return nil, fmt.Errorf("%w: hint is not a string", ErrFormat)
		}
	}
	return f, nil
}

func parseKDF(v any) (kdf, error) {
	if v == nil {
		return kdf{name: KDFNone}, nil
	}
	o, ok := v.(map[string]any)
	if !ok || len(o) != 1 {
		return kdf{}, fmt.Errorf("%w: kdf: want null, Scrypt or PBKDF2", ErrFormat)
	}
	var k kdf
	for name, v := range o { // the one
		params, ok := v.(map[string]any)
		if !ok {
			return kdf{}, fmt.Errorf("%w: kdf %.40q: want an object", ErrFormat, name)
		}
		var err error
		if k, err = parseParams(name, params); err != nil {
			return kdf{}, err
		}
	}
	return k, k.check()
}

func parseParams(name string, o map[string]any) (k kdf, err error) {
	fields := map[string]*uint64{}
	switch name {
	case "Scrypt":
		k.name = KDFScrypt
		fields["n"], fields["r"], fields["p"] = &k.n, &k.r, &k.p
	case "PBKDF2":
		k.name = KDFPBKDF2
		fields["iter"] = &k.iter
	default:
		return kdf{}, fmt.Errorf("%w: kdf %.40q: want null, Scrypt or PBKDF2", ErrFormat, name)
	}
	for key, dst := range fields {
		n, ok := o[key].(json.Number)
		if *dst, err = strconv.ParseUint(string(n), 10, 64); !ok || err != nil {
			return kdf{}, fmt.Errorf("%w: kdf %s: %s: want a positive integer", ErrFormat, name, key)
		}
	}
	k.salt, err = parseBase64(o, "salt")
	return k, err
}

// parseTime keeps the offset, so that the same text is written again.
func parseTime(o map[string]any, key string) (time.Time, error) {
	s, _ := o[key].(string)
	sec, err := names.ParseRFC3339(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", ErrFormat, key, err)
	}
	offset := 0
	if s[19] != 'Z' {
		h, _ := strconv.Atoi(s[20:22]) // both were checked
		m, _ := strconv.Atoi(s[23:25])
		offset = h*3600 + m*60
		if s[19] == '-' {
			offset = -offset
		}
	}
	t := time.Unix(sec, 0).In(time.FixedZone("", offset))
	if t.Year() > 9999 { // a leap second at the end of time
		return time.Time{}, fmt.Errorf("%w: %s: after the year 9999", ErrFormat, key)
	}
	return t, nil
}

func parseBase64(o map[string]any, key string) ([]byte, error) {
	s, ok := o[key].(string)
	if !ok {
		return nil, fmt.Errorf("%w: %s: want base64", ErrFormat, key)
	}
	b, err := b64.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, key, err)
	}
	return b, nil
}

// The form of the file. The order of the fields is the order on disk.
type (
	fileJSON struct {
		KDF         any    `json:"kdf"`
		Created     string `json:"created"`
		Modified    string `json:"modified"`
		Data        string `json:"data"`
		Fingerprint string `json:"fingerprint,omitempty"`
		Hint        string `json:"hint,omitempty"`
	}
	scryptJSON struct {
		Scrypt struct {
			N    uint64 `json:"n"`
			R    uint64 `json:"r"`
			P    uint64 `json:"p"`
			Salt string `json:"salt"`
		}
	}
	pbkdf2JSON struct {
		PBKDF2 struct {
			Iter uint64 `json:"iter"`
			Salt string `json:"salt"`
		}
	}
)

// Marshal returns the compact text of the file, without a line end.
func (f *File) Marshal() ([]byte, error) { return f.marshal("") }

// MarshalIndent returns the text for people: a line for each field, two spaces
// for each level. The paper form of a key holds it.
func (f *File) MarshalIndent() ([]byte, error) { return f.marshal("  ") }

func (f *File) marshal(indent string) ([]byte, error) {
	const form = "2006-01-02T15:04:05-07:00"
	out := fileJSON{
		Created:  f.Created.Format(form),
		Modified: f.Modified.Format(form),
		Data:     b64.EncodeToString(f.data),
		Hint:     f.Hint,
	}
	if f.named {
		out.Fingerprint = f.Fingerprint.String()
	}
	switch f.kdf.name {
	case KDFScrypt:
		var k scryptJSON
		k.Scrypt.N, k.Scrypt.R, k.Scrypt.P, k.Scrypt.Salt = f.kdf.n, f.kdf.r, f.kdf.p, b64.EncodeToString(f.kdf.salt)
		out.KDF = k
	case KDFPBKDF2:
		var k pbkdf2JSON
		k.PBKDF2.Iter, k.PBKDF2.Salt = f.kdf.iter, b64.EncodeToString(f.kdf.salt)
		out.KDF = k
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(out); err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
