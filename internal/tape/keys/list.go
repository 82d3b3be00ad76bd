package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
)

// ErrFormat is wrapped when a file with keys cannot be understood.
var ErrFormat = errors.New("not a list of tape keys")

// plain is an entry of the first file.
type plain struct {
	Fingerprint chunkcrypt.Fingerprint `json:"fingerprint"`
	Key         string                 `json:"key"`
}

// parsePlain reads the keys. Nothing is an empty list.
func parsePlain(js []byte) ([]*chunkcrypt.Key, error) {
	if len(js) == 0 {
		return nil, nil
	}
	var list []plain
	if json.Unmarshal(js, &list) != nil { // the cause might quote a key
		return nil, ErrFormat
	}
	var keys []*chunkcrypt.Key
	for i, p := range list {
		var raw [chunkcrypt.KeySize]byte
		if n, err := hex.Decode(raw[:], []byte(p.Key)[:min(len(p.Key), 2*len(raw))]); err != nil || n != len(raw) || len(p.Key) != 2*n {
			return nil, fmt.Errorf("%w: key %d has no 64 hexadecimal digits", ErrFormat, i+1)
		}
		k, err := chunkcrypt.New(raw)
		clear(raw[:])
		if err != nil {
			return nil, err
		}
		if k.Fingerprint() != p.Fingerprint {
			return nil, fmt.Errorf("%w: key %d is not the one with fingerprint %s", ErrFormat, i+1, p.Fingerprint)
		}
		if find(keys, p.Fingerprint) != nil {
			return nil, fmt.Errorf("%w: %s is there twice", ErrFormat, p.Fingerprint)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func appendPlain(keys []*chunkcrypt.Key) ([]byte, error) {
	list := make([]plain, len(keys))
	for i, k := range keys {
		raw := k.Reveal()
		list[i] = plain{k.Fingerprint(), hex.EncodeToString(raw[:])}
		clear(raw[:])
	}
	return json.MarshalIndent(list, "", "  ")
}

func find(keys []*chunkcrypt.Key, f chunkcrypt.Fingerprint) *chunkcrypt.Key {
	for _, k := range keys {
		if k.Fingerprint() == f {
			return k
		}
	}
	return nil
}

// parseFiles reads the keys under passwords.
func parseFiles(js []byte) ([]*keyfile.File, error) {
	if len(js) == 0 {
		return nil, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(js, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var files []*keyfile.File
	for i, raw := range list {
		f, err := keyfile.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: key %d: %w", ErrFormat, i+1, err)
		}
		if f.Fingerprint.IsZero() {
			return nil, fmt.Errorf("%w: key %d has no fingerprint", ErrFormat, i+1)
		}
		if at(files, f.Fingerprint) >= 0 {
			return nil, fmt.Errorf("%w: %s is there twice", ErrFormat, f.Fingerprint)
		}
		files = append(files, f)
	}
	return files, nil
}

func appendFiles(files []*keyfile.File) ([]byte, error) {
	list := make([]json.RawMessage, len(files))
	for i, f := range files {
		var err error
		if list[i], err = f.Marshal(); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(list); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func at(files []*keyfile.File, f chunkcrypt.Fingerprint) int {
	for i, k := range files {
		if k.Fingerprint == f {
			return i
		}
	}
	return -1
}
