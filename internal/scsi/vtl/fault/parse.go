package fault

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Parse reads a rule from words:
//
//	op=0a,10      opcodes, hexadecimal
//	n=3           the third of them
//	times=2       and the next; -1: all from then on
//	sense=3/0c/00 key, code and qualifier, hexadecimal
//	status=18     hexadecimal
//	lost, timeout, twice, done
func Parse(text string) (*Rule, error) {
	r := &Rule{}
	how := 0
	for word := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "op":
			r.Ops, err = parseOps(value)
		case "n":
			r.N, err = strconv.Atoi(value)
		case "times":
			r.Times, err = strconv.Atoi(value)
		case "sense":
			how++
			r.Sense, err = parseSense(value)
		case "status":
			how++
			var v uint64
			v, err = strconv.ParseUint(value, 16, 8)
			r.Status = scsi.Status(v)
		case "lost":
			how++
			r.Lost = true
		case "timeout":
			how++
			r.Timeout = true
		case "twice":
			how++
			r.Twice = true
		case "done":
			r.Done = true
		default:
			err = fmt.Errorf("%q is no word of a fault", name)
		}
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", text, err)
		}
	}
	if how != 1 {
		return nil, fmt.Errorf("fault %q: one of sense, status, lost, timeout and twice is needed", text)
	}
	return r, nil
}

func parseOps(s string) (ops []scsi.Opcode, err error) {
	for part := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil, err
		}
		ops = append(ops, scsi.Opcode(v))
	}
	return ops, nil
}

func parseSense(s string) (*scsi.Sense, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is not key/code/qualifier", s)
	}
	var v [3]uint64
	for i, p := range parts {
		var err error
		if v[i], err = strconv.ParseUint(p, 16, 8); err != nil {
			return nil, err
		}
	}
	if v[0] > 0x0f {
		return nil, fmt.Errorf("%q: keys go up to f", s)
	}
	return &scsi.Sense{Key: scsi.Key(v[0]), ASC: uint8(v[1]), ASCQ: uint8(v[2])}, nil
}
