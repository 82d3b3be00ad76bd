package pxar

import (
	"fmt"

	"github.com/dchest/siphash"
)

// The key of the hash: the first 16 bytes of SHA-1("PROXMOX ARCHIVE FORMAT").
const (
	hashKey0 = 0x83ac3f1cfbb450db
	hashKey1 = 0xaa4f1b6879369fbd
)

// NameHash is the hash that goodbye tables are ordered by, SipHash-2-4 of the
// name under a fixed key.
func NameHash(name string) uint64 { return nameHash([]byte(name)) }

func nameHash(name []byte) uint64 { return siphash.Hash(hashKey0, hashKey1, name) }

func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("unknown type %016x", uint64(t))
}
