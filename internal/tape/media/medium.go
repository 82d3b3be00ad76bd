package media

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// Medium is what the inventory knows of a medium.
type Medium struct {
	Label    tapefile.Label
	Set      *tapefile.SetLabel // nil: it was never in a media set
	Location Location
	Status   Status // what was stored; what it means in its pool is computed
	Used     *int64 // bytes on it; nil: not known
}

// UUID names the medium.
func (m Medium) UUID() uuid.UUID { return m.Label.UUID }

// Pool is the pool that the medium belongs to, "" for none.
func (m Medium) Pool() string {
	if m.Set != nil {
		return m.Set.Pool
	}
	return m.Label.Pool
}

// InSet reports whether the medium is one of a media set.
func (m Medium) InSet() bool { return m.Set != nil && !m.Set.Unassigned() }

// MediaSet is the media set of the medium, zero for none.
func (m Medium) MediaSet() uuid.UUID {
	if m.Set == nil {
		return uuid.Nil
	}
	return m.Set.UUID
}

// Status says what may be done with a medium.
type Status string

// The statuses. Writable and Unknown are computed and never stored by this
// program.
const (
	Writable Status = "writable"
	Full     Status = "full"
	Unknown  Status = "unknown"
	Damaged  Status = "damaged"
	Retired  Status = "retired"
)

// ParseStatus reads a status that a user may give a medium: "full", "damaged",
// "retired", or "" to let it be computed.
func ParseStatus(s string) (Status, error) {
	switch st := Status(s); st {
	case "", Full, Damaged, Retired:
		return st, nil
	}
	return "", fmt.Errorf("%.40q is no status: want full, damaged or retired", s)
}

// Place is a kind of location.
type Place int

// The kinds. Where nothing is stored, a medium is offline.
const (
	NotStored Place = iota
	Offline
	Online
	Vault
)

// Location is where a medium is.
type Location struct {
	Place Place
	Name  string // of the changer or the vault
}

var errLocation = errors.New("no location of a medium: want offline, online-CHANGER or vault-NAME")

// ParseLocation reads what String writes.
func ParseLocation(s string) (Location, error) {
	if s == "offline" {
		return Location{Place: Offline}, nil
	}
	for prefix, place := range map[string]Place{"online-": Online, "vault-": Vault} {
		if name, ok := strings.CutPrefix(s, prefix); ok && names.IsSafeID(name) && len(name) <= 32 {
			return Location{place, name}, nil
		}
	}
	return Location{}, fmt.Errorf("%.60q: %w", s, errLocation)
}

// String is "offline", "online-CHANGER" or "vault-NAME".
func (l Location) String() string {
	switch l.Place {
	case Online:
		return "online-" + l.Name
	case Vault:
		return "vault-" + l.Name
	}
	return "offline"
}
