package pxar

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

// item is the header of the next item, which has not been consumed.
type item struct {
	typ  Type
	size int64 // of the content
	pos  int64 // of the header
}

// item looks at the next header. At the end of the archive the error is
// io.EOF, bare.
func (in *input) item() (item, error) {
	b, err := in.peek(HeaderSize)
	if err != nil {
		return item{}, err
	}
	it := item{typ: Type(le.Uint64(b)), pos: in.pos}
	size := le.Uint64(b[8:])
	if size < HeaderSize || size > uint64(math.MaxInt64-in.pos) {
		return item{}, fmt.Errorf("%w: offset %d: %s of %d bytes", ErrFormat, in.pos, it.typ, size)
	}
	it.size = int64(size - HeaderSize)
	return it, nil
}

func (it item) bad(format string, args ...any) error {
	return fmt.Errorf("%w: offset %d: %s %s", ErrFormat, it.pos, it.typ, fmt.Sprintf(format, args...))
}

// content consumes an item whose content has lo to hi bytes, and returns that.
func (in *input) content(it item, lo, hi int64) ([]byte, error) {
	switch {
	case it.size >= lo && it.size <= hi:
	case lo == hi:
		return nil, it.bad("has %d bytes of content, not %d", it.size, lo)
	default:
		return nil, it.bad("has %d bytes of content, %d to %d are possible", it.size, lo, hi)
	}
	b, err := in.next(HeaderSize + int(it.size))
	if err != nil {
		return nil, err
	}
	return b[HeaderSize:], nil
}

// numbers consumes an item of n numbers.
func (in *input) numbers(it item, n int64) (v [4]uint64, err error) {
	b, err := in.content(it, 8*n, 8*n)
	for i := range len(b) / 8 {
		v[i] = le.Uint64(b[8*i:])
	}
	return v, err
}

// text checks that b ends in a NUL, and returns it without.
func (it item) text(b []byte) ([]byte, error) {
	if b[len(b)-1] != 0 {
		return nil, it.bad("does not end in a NUL")
	}
	return b[:len(b)-1], nil
}

// filename consumes a FILENAME item.
func (in *input) filename(it item) (string, error) {
	if it.typ != TypeFilename {
		return "", it.bad("where a FILENAME or GOODBYE is expected")
	}
	b, err := in.content(it, 2, MaxName+1)
	if err != nil {
		return "", err
	}
	if b, err = it.text(b); err != nil {
		return "", err
	}
	if problem := checkName(b); problem != "" {
		return "", it.bad("is none: %s", problem)
	}
	return string(b), nil
}

// entry reads what follows a FILENAME, up to the content. It sets all of e but
// Name and Offset, which are given, and EndPos of directories.
func (in *input) entry(e *Entry, version int) error {
	it, err := in.item()
	if err != nil {
		return in.within(err)
	}
	switch {
	case it.typ == TypeHardlink && e.Name != "":
		return in.hardlink(e, it)
	case it.typ == TypeEntry:
		err = in.stat(e, it)
	case it.typ == TypeEntryV1:
		err = in.statV1(e, it)
	default:
		err = it.bad("where an ENTRY is expected")
	}
	if err != nil {
		return err
	}
	if e.Kind = KindOf(e.Mode); e.Kind == 0 {
		return it.bad("of %.80q has mode %o, which is of no known type", e.Name, e.Mode)
	}
	if err := in.attributes(e); err != nil {
		return err
	}
	return in.last(e, version)
}

func (in *input) hardlink(e *Entry, it item) error {
	b, err := in.content(it, minHardlink, 8+MaxName+1)
	if err != nil {
		return err
	}
	back := le.Uint64(b)
	if back == 0 || back > uint64(e.Offset) {
		return it.bad("of %.80q at offset %d leads back %d bytes", e.Name, e.Offset, back)
	}
	target, err := it.text(b[8:])
	if err != nil {
		return err
	}
	if problem := checkTarget(target); problem != "" {
		return it.bad("is none: %s", problem)
	}
	e.Kind, e.Target, e.Link = Hardlink, string(target), e.Offset-int64(back)
	e.Body, e.EndPos = in.pos, in.pos
	return nil
}

func (in *input) stat(e *Entry, it item) error {
	b, err := in.content(it, statSize, statSize)
	if err != nil {
		return err
	}
	nsec := le.Uint32(b[32:])
	if nsec > 999_999_999 {
		return it.bad("of %.80q has %d nanoseconds", e.Name, nsec)
	}
	e.Mtime = Time{int64(le.Uint64(b[24:])), nsec}
	return e.commonStat(it, b)
}

func (in *input) statV1(e *Entry, it item) error {
	b, err := in.content(it, statV1Size, statV1Size)
	if err != nil {
		return err
	}
	ns := le.Uint64(b[24:])
	e.Mtime = Time{int64(ns / 1e9), uint32(ns % 1e9)}
	return e.commonStat(it, b)
}

func (e *Entry) commonStat(it item, b []byte) error {
	mode := le.Uint64(b)
	if mode > math.MaxUint32 {
		return it.bad("of %.80q has mode %o", e.Name, mode)
	}
	e.Mode, e.Flags, e.UID, e.GID = uint32(mode), le.Uint64(b[8:]), le.Uint32(b[16:]), le.Uint32(b[20:])
	return nil
}

// attributes reads attribute items in any order.
func (in *input) attributes(e *Entry) error {
	start := in.pos
	var seen [5]bool
	for {
		it, err := in.item()
		if err == io.EOF { //nolint:errorlint // peek returns it bare
			return nil // for last to judge
		}
		if err != nil {
			return err
		}
		once, ok := attributeType(it.typ)
		if !ok {
			return nil
		}
		if it.size > MaxXattr || in.pos-start+it.size > MaxAttributes {
			return it.bad("of %.80q: more than %d bytes, or than %d of all attributes", e.Name, MaxXattr, MaxAttributes)
		}
		if once > 0 && seen[once] {
			return it.bad("of %.80q comes twice", e.Name)
		}
		seen[once] = true
		if err := in.attribute(e, it); err != nil {
			return err
		}
	}
}

// attributeType reports whether t is that of an attribute, and numbers those
// that come at most once from 1 on.
func attributeType(t Type) (once int, ok bool) {
	switch t {
	case TypeXattr, TypeACLUser, TypeACLGroup, TypeACLDefaultUser, TypeACLDefaultGroup:
		return 0, true
	case TypeACLGroupObj:
		return 1, true
	case TypeACLDefault:
		return 2, true
	case TypeFCaps:
		return 3, true
	case TypeQuotaProjectID:
		return 4, true
	}
	return 0, false
}

func (in *input) attribute(e *Entry, it item) error {
	switch it.typ {
	case TypeXattr:
		b, err := in.content(it, 2, MaxXattr)
		if err != nil {
			return err
		}
		name, value, ok := bytes.Cut(b, []byte{0})
		if !ok || len(name) == 0 || len(name) > MaxXattrName {
			return it.bad("of %.80q has no name of 1 to %d bytes and a NUL", e.Name, MaxXattrName)
		}
		e.Xattrs = append(e.Xattrs, Xattr{string(name), bytes.Clone(value)})
		return nil
	case TypeFCaps:
		b, err := in.content(it, 0, MaxXattr)
		e.FCaps = append([]byte{}, b...)
		return err
	case TypeQuotaProjectID:
		v, err := in.numbers(it, 1)
		e.ProjectID = v[0]
		return err
	}
	if e.ACL == nil {
		e.ACL = new(ACL)
	}
	return in.acl(e.ACL, it)
}

func (in *input) acl(a *ACL, it item) error {
	switch it.typ {
	case TypeACLGroupObj:
		v, err := in.numbers(it, 1)
		a.GroupObj = new(Perm(v[0]))
		return err
	case TypeACLDefault:
		v, err := in.numbers(it, 4)
		a.Default = &ACLDefault{Perm(v[0]), Perm(v[1]), Perm(v[2]), Perm(v[3])}
		return err
	}
	v, err := in.numbers(it, 2)
	named := ACLEntry{v[0], Perm(v[1])}
	switch it.typ {
	case TypeACLUser:
		a.Users = append(a.Users, named)
	case TypeACLGroup:
		a.Groups = append(a.Groups, named)
	case TypeACLDefaultUser:
		a.DefaultUsers = append(a.DefaultUsers, named)
	case TypeACLDefaultGroup:
		a.DefaultGroups = append(a.DefaultGroups, named)
	}
	return err
}

// last reads the item that ends an entry; what belongs to another entry is
// left.
func (in *input) last(e *Entry, version int) error {
	it, err := in.item()
	// In a file, what is read ends at the goodbye table, and so may the last
	// FIFO or socket of a directory.
	if err == io.EOF && in.at != nil && (e.Kind == FIFO || e.Kind == Socket) { //nolint:errorlint // peek returns it bare
		e.Body, e.EndPos = in.pos, in.pos
		return nil
	}
	if err != nil {
		return in.within(err)
	}
	switch {
	case it.typ == TypeFilename || it.typ == TypeGoodbye:
		switch e.Kind {
		case FIFO, Socket:
			e.EndPos = in.pos
		case Directory:
		default:
			return it.bad("follows the metadata of a %s, %.80q", e.Kind, e.Name)
		}
	case it.typ == TypeSymlink && e.Kind == Symlink:
		err = in.symlink(e, it)
	case it.typ == TypeDevice && (e.Kind == CharDevice || e.Kind == BlockDevice):
		var v [4]uint64
		v, err = in.numbers(it, 2)
		e.Device, e.EndPos = Device{v[0], v[1]}, in.pos
	case it.typ == TypePayload && version == 1 && e.Kind == File:
		_, err = in.next(HeaderSize)
		e.Size, e.EndPos = it.size, in.pos+it.size
	case it.typ == TypePayloadRef && version == 2 && e.Kind == File:
		err = in.payloadRef(e, it)
	default:
		return it.bad("follows the metadata of a %s, %.80q, in version %d", e.Kind, e.Name, version)
	}
	e.Body = in.pos
	return err
}

func (in *input) symlink(e *Entry, it item) error {
	b, err := in.content(it, 2, MaxName+1)
	if err != nil {
		return err
	}
	if b, err = it.text(b); err != nil {
		return err
	}
	if problem := checkTarget(b); problem != "" {
		return it.bad("of %.80q is none: %s", e.Name, problem)
	}
	e.Target, e.EndPos = string(b), in.pos
	return nil
}

func (in *input) payloadRef(e *Entry, it item) error {
	b, err := in.content(it, payloadRefSize, payloadRefSize)
	if err != nil {
		return err
	}
	off, size := le.Uint64(b), le.Uint64(b[8:])
	if off > math.MaxInt64/4 || size > math.MaxInt64/4 {
		return it.bad("of %.80q leads to offset %d, %d bytes", e.Name, off, size)
	}
	e.Payload, e.Size, e.EndPos = int64(off), int64(size), in.pos
	return nil
}

// start reads what may stand before the root: version and prelude.
func (in *input) start() (version int, prelude []byte, err error) {
	it, err := in.item()
	if err != nil {
		return 0, nil, in.within(err)
	}
	if it.typ != TypeVersion {
		return 1, nil, nil
	}
	v, err := in.numbers(it, 1)
	if err != nil {
		return 0, nil, err
	}
	if v[0] != 1 && v[0] != 2 {
		return 0, nil, it.bad("is %d, only 1 and 2 are known", v[0])
	}
	if it, err = in.item(); err != nil || it.typ != TypePrelude {
		return int(v[0]), nil, in.within(err)
	}
	if it.size > MaxPrelude {
		return 0, nil, it.bad("has %d bytes, at most %d are read", it.size, MaxPrelude)
	}
	if _, err = in.next(HeaderSize); err != nil {
		return 0, nil, err
	}
	prelude = []byte{}
	for left := int(it.size); left > 0; { // in pieces: memory follows what is really there
		b, err := in.next(min(left, maxAhead))
		if err != nil {
			return 0, nil, err
		}
		prelude, left = append(prelude, b...), left-len(b)
	}
	return int(v[0]), prelude, nil
}
