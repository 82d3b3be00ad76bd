package mapping

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/unitname"
)

// Name is the name of a mapping, as the existing client forms it. snapshot is
// what the user typed: a group stays a group.
func Name(repository, snapshot, archive string) string {
	return repository + ":" + snapshot + "/" + strings.TrimSuffix(archive, ".fidx")
}

// keyLen leaves room for the longest suffix in a file name of 255 bytes.
const keyLen = 255 - len(".json")

// fileKey is the name that a mapping's files begin with.
func fileKey(name, namespace string) string {
	key := unitname.Escape(name)
	if namespace != "" {
		key += "~" + short(namespace)
	}
	if len(key) > keyLen {
		hash := "~" + short(name+"\x00"+namespace)
		key = key[:keyLen-len(hash)] + hash
	}
	return key
}

func short(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return "m" + hex.EncodeToString(b[:])
}

// AmbiguousError lists what fits.
type AmbiguousError struct {
	Which      string
	Candidates []Record
}

func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q fits %d mappings; name one by its device or id:", e.Which, len(e.Candidates))
	for _, r := range e.Candidates {
		fmt.Fprintf(&b, "\n  %s  %s  %s", r.ID, r.Target(), r.Name)
		if r.Namespace != "" {
			fmt.Fprintf(&b, " (namespace %s)", r.Namespace)
		}
	}
	return b.String()
}

// find picks the record that which names: an id, a device or one of its
// partitions, the number of a loop device, a path or URI, a name, or a suffix
// of a name. What fits exactly goes before suffixes.
func find(records []Record, which string) (Record, error) {
	if which == "" {
		return Record{}, fmt.Errorf("name a mapping: %w", ErrNotMapped)
	}
	var exact, suffix []Record
	for _, r := range records {
		switch {
		case r.exactly(which):
			exact = append(exact, r)
		case strings.HasSuffix(r.Name, which):
			suffix = append(suffix, r)
		}
	}
	fits := exact
	if len(fits) == 0 {
		fits = suffix
	}
	switch len(fits) {
	case 0:
		return Record{}, fmt.Errorf("%s: %w", which, ErrNotMapped)
	case 1:
		return fits[0], nil
	}
	return Record{}, &AmbiguousError{which, fits}
}

func (r Record) exactly(which string) bool {
	if which == r.ID || which == r.Name || which == r.Target() {
		return true
	}
	if n, err := strconv.ParseUint(which, 10, 20); err == nil {
		return r.Mode == Loop && r.Device == fmt.Sprintf("/dev/loop%d", n)
	}
	abs, err := filepath.Abs(which)
	if err != nil {
		return false
	}
	switch r.Mode {
	case Loop, NBD:
		return r.Device != "" && (abs == r.Device || isPartition(abs, r.Device))
	case File:
		return abs == r.Path
	case Socket:
		return abs == r.Socket
	}
	return false
}

// isPartition reports whether node is a partition's of the device: /dev/loop3p1.
func isPartition(node, device string) bool {
	number, ok := strings.CutPrefix(node, device+"p")
	_, err := strconv.ParseUint(number, 10, 16)
	return ok && err == nil
}
