// Package manifest reads, signs and writes the list of what a snapshot holds:
// the JSON inside the file index.json.blob.
//
// # Form
//
//	backup-type         "vm", "ct" or "host"
//	backup-id           text, a safe-id
//	backup-time         integer, the time of the snapshot's directory
//	files               array, in upload order, of
//	    filename        name on the server, ending in .fidx, .didx or .blob
//	    crypt-mode      "none", "encrypt" or "sign-only"; absent means none
//	    size            integer: image size; end of the last chunk; size of the raw blob file
//	    csum            64 hex digits: checksum of the index; SHA-256 of the raw blob file
//	signature           64 hex digits, or null
//	unprotected         object, not signed; absent means empty:
//	    key-fingerprint     of the key that signed
//	    notes               text of any number of lines
//	    verify_state        {"state": "ok" or "failed", "upid"}
//	    chunk_upload_stats  {"count", "size", "compressed_size", "duplicates"}
//	    (anything else)     kept with its exact value
//
// It is written with sorted keys, two spaces of indentation and "signature":
// null when unsigned. Readers accept any order of keys and any white space.
//
// # Signature
//
// HMAC-SHA256, with the id-key of the encryption key, over the canonical JSON
// (internal/format/canonjson) of the object without "unprotected" and
// "signature".
//
// Which object? Servers of version 3 take the JSON as it is, those of version
// 4.2 rebuild it from the fields above; they differ as soon as there is a field
// that is not listed. This package takes the JSON as it was read, unknown
// fields included: nothing escapes the signature then, and a manifest from
// before crypt-mode existed still verifies. Parse keeps that object and Marshal
// writes it back unchanged as long as the exported fields are. Sign always
// rebuilds from the listed fields, so that both kinds of server verify what is
// signed here.
//
// An unsigned manifest passes Verify, as it does elsewhere: a backup without a
// key is legitimate, and whoever can remove the signature can replace the
// whole snapshot. A caller that expects a signature looks at [Manifest.Signed].
//
// # Errors
//
// Parse returns errors wrapping [ErrFormat] and no others. Verify adds
// [ErrWrongKey] and [ErrSignature].
//
// # Source
//
// proxmox-backup: pbs-datastore/src/manifest.rs; pbs-api-types/src/datastore.rs.
package manifest

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Errors that callers tell apart.
var (
	ErrFormat    = errors.New("invalid manifest")
	ErrWrongKey  = errors.New("manifest was signed with another key")
	ErrSignature = errors.New("manifest has a wrong signature")
)

// MaxSize is the largest manifest that Parse reads, in bytes; larger ones
// could not be uploaded.
const MaxSize = 16 << 20

// CryptMode says what the encryption key was used for.
type CryptMode string

// Modes of a file.
const (
	ModeNone     CryptMode = "none"
	ModeEncrypt  CryptMode = "encrypt"
	ModeSignOnly CryptMode = "sign-only"
)

// ParseCryptMode reads "none", "encrypt" or "sign-only".
func ParseCryptMode(s string) (CryptMode, error) {
	switch m := CryptMode(s); m {
	case ModeNone, ModeEncrypt, ModeSignOnly:
		return m, nil
	}
	return "", fmt.Errorf("%w: crypt mode %.40q: want none, encrypt or sign-only", ErrFormat, s)
}

// File describes one archive of the snapshot.
type File struct {
	Filename  string // on the server: "drive-scsi0.img.fidx"
	CryptMode CryptMode
	Size      uint64        // bytes, at most 2^63-1; see the package comment
	Csum      digest.Digest // see the package comment
}

// Archive returns the name as a type.
func (f File) Archive() names.Archive { return names.Archive(f.Filename) }

// Manifest is the list of what a snapshot holds. Its zero value is not valid;
// use New or Parse. After a change of its exported fields it must be signed
// again, if it was.
type Manifest struct {
	BackupType string
	BackupID   string
	BackupTime int64 // seconds since 1970-01-01 UTC
	Files      []File
	Signature  string // 64 hex digits if it is good, empty when unsigned; set by Sign
	Unprotected

	signed *signedPart // as read or as signed; nil for a new manifest
}

// New returns an unsigned manifest without files.
func New(s names.Snapshot) *Manifest {
	return &Manifest{BackupType: string(s.Type), BackupID: s.ID, BackupTime: s.Time}
}

// Group returns the group that the manifest says it belongs to.
func (m *Manifest) Group() names.Group {
	return names.Group{Type: names.BackupType(m.BackupType), ID: m.BackupID}
}

// Describes reports whether the manifest is that of snapshot s. The namespace
// is not part of a manifest.
func (m *Manifest) Describes(s names.Snapshot) bool {
	return m.Group() == s.Group && m.BackupTime == s.Time
}

// File returns the entry with the given name on the server.
func (m *Manifest) File(name string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Filename == name })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// Add appends an entry.
func (m *Manifest) Add(f File) error {
	if _, ok := m.File(f.Filename); ok {
		return fmt.Errorf("%w: file %q is listed twice", ErrFormat, f.Filename)
	}
	if err := f.check(); err != nil {
		return err
	}
	m.Files = append(m.Files, f)
	return nil
}

// check reports whether the exported fields may be written.
func (m *Manifest) check() error {
	if err := m.Group().Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := names.ParseTime(names.FormatTime(m.BackupTime)); err != nil {
		return fmt.Errorf("%w: backup-time %d: %w", ErrFormat, m.BackupTime, err)
	}
	seen := make(map[string]struct{}, len(m.Files))
	for _, f := range m.Files {
		if err := f.check(); err != nil {
			return err
		}
		if _, twice := seen[f.Filename]; twice {
			return fmt.Errorf("%w: file %q is listed twice", ErrFormat, f.Filename)
		}
		seen[f.Filename] = struct{}{}
	}
	return nil
}

func (f File) check() error {
	if _, err := names.ParseArchive(f.Filename); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if f.Archive() == names.Manifest {
		return fmt.Errorf("%w: the manifest lists itself", ErrFormat)
	}
	if _, err := ParseCryptMode(string(f.CryptMode)); err != nil {
		return fmt.Errorf("file %q: %w", f.Filename, err)
	}
	if f.Size > math.MaxInt64 {
		return fmt.Errorf("%w: file %q: size %d does not fit 63 bits", ErrFormat, f.Filename, f.Size)
	}
	return nil
}
