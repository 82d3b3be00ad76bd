package drive

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Modes of encryption and decryption.
const (
	cryptOff     = 0
	cryptOn      = 2
	decryptMixed = 3
)

// encryption is what a host set for the data.
type encryption struct {
	key              *cartridge.Key // nil: none
	encrypt, decrypt byte
	scope            byte // of the key, in bits 7 to 5
	clearOnDemount   bool
	instance         uint32 // counts the changes
	names            []byte // the key's associated data, as the host sent it
}

func (e *encryption) writing() *cartridge.Key {
	if e.encrypt == cryptOn {
		return e.key
	}
	return nil
}

func (e *encryption) reading() *cartridge.Key {
	if e.decrypt != cryptOff {
		return e.key
	}
	return nil
}

// onlyEncrypted says that plain blocks are refused.
func (e *encryption) onlyEncrypted() bool { return e.decrypt == cryptOn }

// clear forgets the key, and that of before is never taken for the next.
func (e *encryption) clear() { *e = encryption{instance: e.instance + 1} }

// Security protocols.
const (
	protocolInformation = 0x00
	protocolTape        = 0x20
)

// Pages of the tape data encryption protocol.
const (
	cryptIn           = 0x0000
	cryptOut          = 0x0001
	cryptCapabilities = 0x0010 // and the page that sets a key
	cryptKeyFormats   = 0x0011
	cryptManagement   = 0x0012
	cryptStatus       = 0x0020
	cryptNextBlock    = 0x0021
)

func (d *Drive) securityIn(r *request) (int, error) {
	be := binary.BigEndian
	if r.cdb[4]&0x80 != 0 { // lengths in units of 512
		return 0, spc.BadField()
	}
	allowed := int(min(be.Uint32(r.cdb[6:]), 1<<30))
	page := be.Uint16(r.cdb[2:])
	switch r.cdb[1] {
	case protocolInformation:
		switch page {
		case 0:
			return d.answers.Put(r.in, []byte{0, 0, 0, 0, 0, 0, 0, 2, protocolInformation, protocolTape}, allowed), nil
		case 1: // it has no certificate
			return d.answers.Put(r.in, make([]byte, 4), allowed), nil
		}
	case protocolTape:
		body, err := d.cryptPage(page)
		if err != nil {
			return 0, err
		}
		b := be.AppendUint16(be.AppendUint16(nil, page), uint16(len(body)))
		return d.answers.Put(r.in, append(b, body...), allowed), nil
	}
	return 0, spc.BadField()
}

// cryptPage is a page without its header of 4 bytes.
func (d *Drive) cryptPage(page uint16) ([]byte, error) {
	switch page {
	case cryptIn:
		return []byte{0, 0x00, 0, 0x01, 0, 0x10, 0, 0x11, 0, 0x12, 0, 0x20, 0, 0x21}, nil
	case cryptOut:
		return []byte{0, 0x10}, nil
	case cryptCapabilities:
		b := make([]byte, 16, 40)
		b[0] = 0x01 // the drive and nobody else sets keys
		return append(b,
			0x01, 0x00, 0x00, 0x14, // algorithm 1
			0xba,       // known while a volume is mounted; decrypts and encrypts by itself
			0x10,       // a key is good for more than one volume
			0x00, 0x20, // unauthenticated and
			0x00, 0x0c, // authenticated associated data
			0x00, 0x20, // bytes of a key
			0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x00, 0x01, 0x00, 0x14), nil // AES-256-GCM
	case cryptKeyFormats:
		return []byte{0x00}, nil // plain keys
	case cryptManagement:
		// It locks, clears keys when the medium goes, and knows all scopes.
		return []byte{0x01, 0x04, 0x00, 0x07, 0, 0, 0, 0, 0, 0, 0, 0}, nil
	case cryptStatus:
		e := &d.crypt
		b := make([]byte, 20)
		b[0] = e.scope | e.scope>>5
		b[1], b[2] = e.encrypt, e.decrypt
		if e.key != nil {
			b[3] = 1
		}
		binary.BigEndian.PutUint32(b[4:], e.instance)
		return append(b, e.names...), nil
	case cryptNextBlock:
		return d.nextBlock()
	}
	return nil, spc.BadField()
}

// nextBlock tells whether the block at the position can be read.
func (d *Drive) nextBlock() ([]byte, error) {
	if err := d.ready(); err != nil {
		return nil, err
	}
	d.await()
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b, d.pos)
	b[8] = 0x02 // not a block
	if d.pos >= d.cart.Objects() {
		return b, nil
	}
	o, err := d.cart.At(d.pos)
	switch {
	case err != nil:
		return nil, d.readError(err)
	case o.Mark:
	case !o.Encrypted:
		b[8] = 0x03
	case d.crypt.reading().Fits(o):
		b[8], b[9] = 0x05, 1
	default:
		b[8], b[9] = 0x06, 1
	}
	return b, nil
}

func (d *Drive) securityOut(r *request) (int, error) {
	be := binary.BigEndian
	length := be.Uint32(r.cdb[6:])
	switch {
	case r.cdb[1] != protocolTape, r.cdb[4]&0x80 != 0, be.Uint16(r.cdb[2:]) != cryptCapabilities:
		return 0, spc.BadField()
	case uint64(length) > uint64(len(r.out)), length < 20:
		return 0, spc.BadLength()
	}
	b := r.out[:length]
	if be.Uint16(b) != cryptCapabilities {
		return 0, spc.BadParameter()
	}
	if n := 4 + int(be.Uint16(b[2:])); n > len(b) || n < 20 {
		return 0, spc.BadLength()
	} else {
		b = b[:n]
	}
	if err := d.setKey(b); err != nil {
		return 0, err
	}
	return int(length), nil
}

// setKey takes the page that sets data encryption.
func (d *Drive) setKey(b []byte) error {
	keySize := int(binary.BigEndian.Uint16(b[18:]))
	e := encryption{encrypt: b[6], decrypt: b[7], scope: b[4] & 0xe0, clearOnDemount: b[5]&0x04 != 0, instance: d.crypt.instance + 1}
	switch {
	case e.scope > 0x40, // public, local, all
		e.encrypt != cryptOff && e.encrypt != cryptOn,                              // 1 is a key from elsewhere
		e.decrypt != cryptOff && e.decrypt != cryptOn && e.decrypt != decryptMixed, // 1 is raw
		b[9] != 0x00, // a format of keys other than plain
		len(b) < 20+keySize:
		return spc.BadParameter()
	}
	if e.encrypt == cryptOff && e.decrypt == cryptOff {
		d.crypt.clear()
		d.crypt.scope = e.scope
		return nil
	}
	if keySize != 32 || b[8] != 1 || !goodNames(b[20+keySize:]) {
		return spc.BadParameter()
	}
	e.key = cartridge.NewKey([32]byte(b[20:]))
	e.names = append(e.names, b[20+keySize:]...)
	d.crypt = e
	return nil
}

// goodNames looks at the descriptors of data that goes with a key.
func goodNames(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 || b[0] > 0x02 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) || n > 4+32 {
			return false
		}
		b = b[n:]
	}
	return true
}
