package iso9660

import (
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// record is one record of a directory.
type record struct {
	at          int64 // in the image
	length      int64
	block, size int64
	extra       int64 // blocks of attributes before the content
	date        time.Time
	flags       byte
	interleaved bool
	name        []byte
	room        []byte // for Rock Ridge
}

// record reads the record at a place.
func (f *FS) record(at int64) (record, error) {
	b := make([]byte, min(256, max(0, f.img.Size()-at)))
	if at < 16*sector || len(b) < 34 {
		return record{}, fsread.Corrupt(layer, "a record at %d", at)
	}
	if err := fsread.ReadFull(f.img, layer, b, at); err != nil {
		return record{}, err
	}
	return f.parse(b, at)
}

// parse takes the record apart that b begins with.
func (f *FS) parse(b []byte, at int64) (record, error) {
	n := int(b[0])
	if n < 34 || n > len(b) || 33+int(b[32]) > n {
		return record{}, fsread.Corrupt(layer, "the record at %d has %d bytes", at, n)
	}
	r := record{
		at: at, length: int64(n), block: int64(le.Uint32(b[2:])), size: int64(le.Uint32(b[10:])), extra: int64(b[1]), date: shortDate(b[18:]),
		flags: b[25], interleaved: b[26] != 0 || b[27] != 0, name: b[33 : 33+int(b[32])],
	}
	room := 33 + int(b[32])
	if room%2 != 0 {
		room++
	}
	if f.rock && room+f.skip < n {
		r.room = b[room+f.skip : n]
	}
	return r, nil
}

// shortDate is years since 1900, month, day, hour, minute, second, and the zone in
// quarters of an hour.
func shortDate(b []byte) time.Time {
	if b[1] == 0 {
		return time.Time{}
	}
	t := time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, time.UTC)
	return t.Add(-15 * time.Minute * time.Duration(int8(b[6])))
}

// longDate is digits: year, month, day, hour, minute, second, hundredths, and the
// zone.
func longDate(b []byte) time.Time {
	n := func(at, length int) (v int) {
		for _, c := range b[at : at+length] {
			v = v*10 + int(c-'0')%10
		}
		return v
	}
	for _, c := range b[:16] {
		if c < '0' || c > '9' {
			return time.Time{}
		}
	}
	if n(4, 2) == 0 {
		return time.Time{}
	}
	t := time.Date(n(0, 4), time.Month(n(4, 2)), n(6, 2), n(8, 2), n(10, 2), n(12, 2), n(14, 2)*1e7, time.UTC)
	return t.Add(-15 * time.Minute * time.Duration(int8(b[16])))
}

// plainName is a name without Rock Ridge.
func (f *FS) plainName(raw []byte) string {
	if f.joliet {
		u := make([]uint16, len(raw)/2)
		for i := range u {
			u[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		name := fsread.UTF16(u)
		return strings.TrimSuffix(name, ";1")
	}
	name := strings.ToLower(string(raw))
	if i := strings.LastIndexByte(name, ';'); i >= 0 {
		name = name[:i]
	}
	return strings.TrimSuffix(name, ".")
}
