package drive

import "github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"

// Modes of encryption and decryption.
const (
	encryptOff   = 0
	encryptOn    = 2
	decryptOff   = 0
	decryptOnly  = 2
	decryptMixed = 3
)

// encryption is what a host set for the data.
type encryption struct {
	key              *cartridge.Key // nil: none
	encrypt, decrypt byte
	scope            byte
	clearOnDemount   bool
	instance         uint32 // counts the changes
}

func (e *encryption) writing() *cartridge.Key {
	if e.encrypt == encryptOn {
		return e.key
	}
	return nil
}

func (e *encryption) reading() *cartridge.Key {
	if e.decrypt != decryptOff {
		return e.key
	}
	return nil
}

// onlyEncrypted says that plain blocks are refused.
func (e *encryption) onlyEncrypted() bool { return e.decrypt == decryptOnly }
