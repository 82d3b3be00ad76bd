package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// Results of a verification.
const (
	VerifyOK     = "ok"
	VerifyFailed = "failed"
)

// VerifyState is the result of the last verification.
type VerifyState struct {
	State string // VerifyOK or VerifyFailed
	UPID  string // the task that verified; its start is the time of the result
}

// UploadStats counts what a backup sent; the server writes it at the end.
type UploadStats struct {
	Count          uint64 // chunks
	Size           uint64 // plain bytes
	CompressedSize uint64 // encoded bytes
	Duplicates     uint64 // chunks that were there already
}

// Keys of the unprotected part.
const (
	keyFingerprint = "key-fingerprint"
	keyNotes       = "notes"
	keyVerifyState = "verify_state"
	keyUploadStats = "chunk_upload_stats"
)

// Unprotected is the part of a manifest that is not signed and that servers
// may change. Keys that are not known here keep their exact values.
type Unprotected struct {
	values map[string]any
}

// KeyFingerprint returns the fingerprint of the key that signed; it is zero
// when none is stored. The error wraps ErrFormat.
func (u *Unprotected) KeyFingerprint() (chunkcrypt.Fingerprint, error) {
	v, ok := u.values[keyFingerprint]
	if !ok || v == nil {
		return chunkcrypt.Fingerprint{}, nil
	}
	s, ok := v.(string)
	if !ok {
		return chunkcrypt.Fingerprint{}, fmt.Errorf("%w: %s is not a string", ErrFormat, keyFingerprint)
	}
	f, err := chunkcrypt.ParseFingerprint(s)
	if err != nil {
		return chunkcrypt.Fingerprint{}, fmt.Errorf("%w: %s: %w", ErrFormat, keyFingerprint, err)
	}
	return f, nil
}

func (u *Unprotected) setKeyFingerprint(f chunkcrypt.Fingerprint) { u.set(keyFingerprint, f.String()) }

// Notes returns the notes, "" when there are none.
func (u *Unprotected) Notes() string {
	s, _ := u.values[keyNotes].(string)
	return s
}

// Comment returns the first line of the notes, what listings show.
func (u *Unprotected) Comment() string {
	line, _, _ := strings.Cut(u.Notes(), "\n")
	return line
}

// SetNotes replaces the notes; "" removes them. Bytes that are not UTF-8 are
// replaced.
func (u *Unprotected) SetNotes(text string) {
	if text == "" {
		delete(u.values, keyNotes)
		return
	}
	u.set(keyNotes, valid(text))
}

// VerifyState returns the result of the last verification. It is nil when
// there is none and, as elsewhere, when it cannot be read: such a snapshot
// counts as not verified.
func (u *Unprotected) VerifyState() *VerifyState {
	o, ok := u.values[keyVerifyState].(map[string]any)
	if !ok {
		return nil
	}
	state, _ := o["state"].(string)
	task, _ := o["upid"].(string)
	if _, err := upid.Parse(task); err != nil || state != VerifyOK && state != VerifyFailed {
		return nil
	}
	return &VerifyState{State: state, UPID: task}
}

// SetVerifyState replaces the result of the last verification.
func (u *Unprotected) SetVerifyState(v VerifyState) {
	u.set(keyVerifyState, map[string]any{"state": valid(v.State), "upid": valid(v.UPID)})
}

// UploadStats returns what the backup sent, nil when it is not stored or cannot
// be read.
func (u *Unprotected) UploadStats() *UploadStats {
	o, ok := u.values[keyUploadStats].(map[string]any)
	if !ok {
		return nil
	}
	var s UploadStats
	for key, dst := range map[string]*uint64{
		"count": &s.Count, "size": &s.Size, "compressed_size": &s.CompressedSize, "duplicates": &s.Duplicates,
	} {
		switch v := o[key].(type) {
		case uint64: // set here
			*dst = v
		case json.Number: // read
			n, err := strconv.ParseUint(string(v), 10, 64)
			if err != nil {
				return nil
			}
			*dst = n
		default:
			return nil
		}
	}
	return &s
}

// SetUploadStats replaces what the backup sent.
func (u *Unprotected) SetUploadStats(s UploadStats) {
	u.set(keyUploadStats, map[string]any{
		"count": s.Count, "size": s.Size, "compressed_size": s.CompressedSize, "duplicates": s.Duplicates,
	})
}

// Keys returns the names of all values, in no order.
func (u *Unprotected) Keys() []string {
	keys := make([]string, 0, len(u.values))
	for k := range maps.Keys(u.values) {
		keys = append(keys, k)
	}
	return keys
}

// Raw returns the JSON text of any value, for extensions.
func (u *Unprotected) Raw(key string) ([]byte, bool) {
	v, ok := u.values[key]
	if !ok {
		return nil, false
	}
	b, err := canonjson.AppendIndent(nil, v)
	if err != nil {
		panic("manifest: unprotected value that cannot be written: " + err.Error())
	}
	return b, true
}

// SetRaw sets any value from JSON text, for extensions; servers carry such keys
// along untouched. nil removes the key.
func (u *Unprotected) SetRaw(key string, text []byte) error {
	if text == nil {
		delete(u.values, key)
		return nil
	}
	if len(text) > MaxSize || !utf8.ValidString(key) {
		return fmt.Errorf("%w: unprotected %.100q: %d bytes", ErrFormat, key, len(text))
	}
	v, err := canonjson.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: unprotected %.100q: %w", ErrFormat, key, err)
	}
	u.set(key, v)
	return nil
}

func (u *Unprotected) set(key string, v any) {
	if u.values == nil {
		u.values = map[string]any{}
	}
	u.values[key] = v
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
