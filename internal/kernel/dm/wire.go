package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Offsets and sizes of the package comment.
const (
	headerSize = 312
	offSize    = 12
	offStart   = 16
	offTargets = 20
	offOpen    = 24
	offFlags   = 28
	offEvent   = 32
	offDevice  = 40
	offName    = 48
	offUUID    = 176

	maxName = 127
	maxUUID = 128

	specSize   = 40
	specStatus = 16
	specNext   = 20
	specType   = 24
	maxType    = 15

	namesSize    = 12 // of an entry in the list of devices, before its name
	versionsSize = 16 // of an entry in the list of targets, before its name
)

// MaxAnswer bounds the memory for one answer.
const MaxAnswer = 16 << 20

// Flags of a call or an answer.
const (
	flagReadOnly     = 1 << 0
	flagStatusTable  = 1 << 4
	flagActive       = 1 << 5
	flagBufferFull   = 1 << 8
	flagDeferred     = 1 << 17
	eventPrimary     = 0x40 << 16 // udev: this event is of what we did
	eventNoContents  = 0x0e << 16 // udev: no rules of subsystems, disks or others
	eventOfOurs      = eventPrimary | eventNoContents
	interfaceVersion = 4
)

var errAnswer = errors.New("device-mapper gave an answer that makes no sense")

var native = binary.NativeEndian

// request is a call without the room for its answer.
type request struct {
	name, uuid string
	flags      uint32
	event      uint32
	targets    []Target
}

// append encodes a call, with room for an answer of so many bytes.
func (q request) append(dst []byte, room int) ([]byte, error) {
	if len(q.name) > maxName || len(q.uuid) > maxUUID || bytes.IndexByte([]byte(q.name+q.uuid), 0) >= 0 {
		return nil, fmt.Errorf("the name %.150q or UUID %.150q does not fit", q.name, q.uuid)
	}
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	var err error
	for _, t := range q.targets {
		if dst, err = t.append(dst); err != nil {
			return nil, err
		}
	}
	if n := start + headerSize + room - len(dst); n > 0 {
		dst = append(dst, make([]byte, n)...)
	}
	b := dst[start:]
	native.PutUint32(b, interfaceVersion)
	native.PutUint32(b[offSize:], uint32(len(b)))
	native.PutUint32(b[offStart:], headerSize)
	native.PutUint32(b[offTargets:], uint32(len(q.targets)))
	native.PutUint32(b[offFlags:], q.flags)
	native.PutUint32(b[offEvent:], q.event)
	copy(b[offName:], q.name)
	copy(b[offUUID:], q.uuid)
	return dst, nil
}

// append encodes a target of a table to be loaded.
func (t Target) append(dst []byte) ([]byte, error) {
	if len(t.Type) > maxType || bytes.IndexByte([]byte(t.Type+t.Params), 0) >= 0 {
		return nil, fmt.Errorf("the target %.50q with %d bytes of parameters cannot be encoded", t.Type, len(t.Params))
	}
	size := (specSize + len(t.Params) + 1 + 7) / 8 * 8
	start := len(dst)
	dst = append(dst, make([]byte, size)...)
	b := dst[start:]
	native.PutUint64(b, t.Start)
	native.PutUint64(b[8:], t.Length)
	native.PutUint32(b[specNext:], uint32(size))
	copy(b[specType:], t.Type)
	copy(b[specSize:], t.Params)
	return dst, nil
}

// answer is a buffer that the kernel filled.
type answer []byte

// data is what follows the header, as far as it is filled.
func (a answer) data() ([]byte, error) {
	if len(a) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", errAnswer, len(a))
	}
	size, start := native.Uint32(a[offSize:]), native.Uint32(a[offStart:])
	if start > size || int64(size) > int64(len(a)) {
		return nil, fmt.Errorf("%w: data from byte %d to %d of %d", errAnswer, start, size, len(a))
	}
	return a[start:size], nil
}

func (a answer) flags() uint32 { return native.Uint32(a[offFlags:]) }

func (a answer) info() Info {
	return Info{
		Name: text(a[offName : offName+maxName]), UUID: text(a[offUUID : offUUID+maxUUID]),
		Device: native.Uint64(a[offDevice:]), Open: int(int32(native.Uint32(a[offOpen:]))),
		ReadOnly: a.flags()&flagReadOnly != 0, Active: a.flags()&flagActive != 0,
	}
}

// table decodes the targets of an answer.
func (a answer) table() ([]Target, error) {
	b, err := a.data()
	if err != nil {
		return nil, err
	}
	count := int(native.Uint32(a[offTargets:]))
	if count > len(b)/specSize {
		return nil, fmt.Errorf("%w: %d targets in %d bytes", errAnswer, count, len(b))
	}
	var ts []Target
	for at := 0; len(ts) < count; {
		if at > len(b)-specSize {
			return nil, fmt.Errorf("%w: target %d at byte %d of %d", errAnswer, len(ts), at, len(b))
		}
		spec := b[at:]
		next := int64(native.Uint32(spec[specNext:])) // from the first target
		end := int64(len(b))
		if len(ts) < count-1 {
			if end = next; end < int64(at)+specSize || end > int64(len(b)) {
				return nil, fmt.Errorf("%w: target %d at byte %d, the next at %d of %d", errAnswer, len(ts), at, next, len(b))
			}
		}
		ts = append(ts, Target{
			Start: native.Uint64(spec), Length: native.Uint64(spec[8:]),
			Type: text(spec[specType : specType+maxType]), Params: text(b[at+specSize : end]),
		})
		at = int(end)
	}
	return ts, nil
}

// names decodes the list of all devices.
func (a answer) names() (list []Named, err error) {
	err = a.entries(namesSize, func(b []byte) uint32 { return native.Uint32(b[8:]) }, func(b []byte) {
		list = append(list, Named{Name: text(b[namesSize:]), Device: native.Uint64(b)})
	})
	if len(list) == 1 && list[0].Device == 0 { // how an empty list looks
		return nil, err
	}
	return list, err
}

// targetTypes decodes the list of all types of targets.
func (a answer) targetTypes() (list []string, err error) {
	err = a.entries(versionsSize, func(b []byte) uint32 { return native.Uint32(b) }, func(b []byte) {
		list = append(list, text(b[versionsSize:]))
	})
	return list, err
}

// entries walks a list whose entries say where the next one is, 0 at the end.
func (a answer) entries(size int, next func([]byte) uint32, each func([]byte)) error {
	b, err := a.data()
	if err != nil {
		return err
	}
	for {
		if len(b) < size {
			return nil // no list at all, or cut off where the kernel had no more room
		}
		n := next(b)
		if n != 0 && (int64(n) < int64(size) || int64(n) > int64(len(b))) {
			return fmt.Errorf("%w: an entry of %d bytes of %d", errAnswer, n, len(b))
		}
		if n == 0 {
			each(b)
			return nil
		}
		each(b[:n])
		b = b[n:]
	}
}

// text is what comes before a zero.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
