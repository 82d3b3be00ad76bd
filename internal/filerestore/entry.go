package filerestore

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// Type is what a listed entry is.
type Type byte

// The types of entries.
const (
	Dir         Type = 'd'
	File        Type = 'f'
	Symlink     Type = 'l'
	Hardlink    Type = 'h'
	BlockDevice Type = 'b'
	CharDevice  Type = 'c'
	FIFO        Type = 'p'
	Socket      Type = 's'
	Virtual     Type = 'v' // an archive, a bucket
)

// Leaf reports whether nothing can be below it.
func (t Type) Leaf() bool { return t != Dir && t != Virtual }

// Entry is one line of a listing.
type Entry struct {
	Path  Path
	Type  Type
	Size  *int64 // bytes, where it is known
	Mtime *int64 // seconds since the epoch, of files
	Note  string // what is to be known of a volume: "swap", "ext4, label root"
}

// jsonEntry has the keys of proxmox-file-restore.
type jsonEntry struct {
	Filepath string `json:"filepath"` // base64
	Text     string `json:"text"`
	Type     string `json:"type"`
	Leaf     bool   `json:"leaf"`
	Size     *int64 `json:"size,omitempty"`
	Mtime    *int64 `json:"mtime,omitempty"`
	Note     string `json:"note,omitempty"`
}

// MarshalJSON writes the form that file browsers expect: the path in base64,
// since its bytes are any.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonEntry{
		Filepath: base64.StdEncoding.EncodeToString([]byte(e.Path.String())),
		Text:     strings.ToValidUTF8(e.Path.Base(), "\uFFFD"),
		Type:     string(rune(e.Type)), Leaf: e.Type.Leaf(), Size: e.Size, Mtime: e.Mtime, Note: e.Note,
	})
}

// Sort orders entries by type and name.
func Sort(all []Entry) {
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Path.Base(), b.Path.Base()))
	})
}
