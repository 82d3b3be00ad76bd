package volume

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// DefaultPrefix begins the names of mapped volumes, as Virtlet has them: what has
// another name is not ours to list or to take away.
const DefaultPrefix = "virtlet-dm-"

// PrefixError reports a name that does not begin as all names of volumes do.
type PrefixError struct{ Name, Prefix string }

func (e *PrefixError) Error() string {
	return fmt.Sprintf("the name %q does not begin with %q", e.Name, e.Prefix)
}

func prefixOr(prefix string) string {
	if prefix == "" {
		return DefaultPrefix
	}
	return prefix
}

func checkName(name, prefix string) error {
	if !strings.HasPrefix(name, prefix) || name == prefix {
		return &PrefixError{name, prefix}
	}
	return dm.CheckName(name + baseSuffix) // a throw-away mapping needs both
}

// baseSuffix names what lies below a throw-away mapping.
const baseSuffix = "-base"

// A mapping's UUID says that we made it, and when:
//
//	HOLDFAST-<seconds since 1970, 16 hex digits><16 random ones>
const (
	uuidPrefix = "HOLDFAST-"
	uuidDigits = 32
)

func newUUID(now time.Time) string {
	var b [uuidDigits / 2]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.Unix()))
	_, _ = rand.Read(b[8:]) // never fails
	return uuidPrefix + hex.EncodeToString(b[:])
}

// parseUUID tells when we made a mapping; ok is false for one of somebody else.
func parseUUID(s string) (since time.Time, ok bool) {
	digits, ok := strings.CutPrefix(s, uuidPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != uuidDigits/2 {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), 0), true
}
