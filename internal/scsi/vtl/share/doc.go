// Package share lets several processes use a virtual tape library: one has it open
// and serves it, the others reach its units and its operator through sockets.
//
// # Sockets
//
// They lie in the directory of the library:
//
//	changer, drive0, ...  the units (scsi/socket), under their names
//	operator              for people's work: adding, importing, looking
//
// So DIR/drive0 names a drive whether the library is served or not. The owner and
// the group may use them. A socket that nobody listens to is left over
// from a server that was killed; the next one replaces it.
//
// # The operator's protocol
//
// One request a connection: a line of JSON, [Request], of up to 64 KiB, answered by
// one, [Answer].
package share

import (
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
)

// Operator is what people do to a library: a *vtl.Library, or one that another
// process serves.
type Operator interface {
	AddCartridge(c vtl.Cartridge) error
	Cartridges() ([]vtl.Info, error)
	Import(name string) error
	Export(name string) error
	Insert(drive int, name string) error
	Eject(drive int) error
	Delete(name string) error
	Close() error
}

var (
	_ Operator = (*vtl.Library)(nil)
	_ Operator = (*remote)(nil)
)

// Request is what an operator asks for.
type Request struct {
	Do    string         `json:"do"` // list, add, import, export, insert, eject or delete
	New   *vtl.Cartridge `json:"new,omitempty"`
	Name  string         `json:"name,omitempty"`
	Drive int            `json:"drive,omitempty"`
}

// Answer is what comes back.
type Answer struct {
	Error      string     `json:"error,omitempty"`
	Cartridges []vtl.Info `json:"cartridges,omitempty"`
}

const operatorSocket = "operator"
