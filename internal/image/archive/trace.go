package archive

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Trace is the order in which chunks of an image were first read.
type Trace struct {
	Archive   names.Archive
	Size      int64 // bytes
	ChunkSize int64 // bytes
	Slots     []int // each at most once; at most MaxTrace
}

// MaxTrace is how many slots a trace holds, 1 TiB of chunks of the usual size.
const MaxTrace = 1 << 18

// maxTraceFile is more than a trace that was written here can take.
const maxTraceFile = 4 << 20

// ErrTrace is wrapped when bytes are not a trace.
var ErrTrace = errors.New("not a valid trace")

const traceMagic = "holdfast-trace 1"

// Append encodes a trace.
func (t *Trace) Append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "%s\narchive %s\nsize %d\nchunk %d\n", traceMagic, t.Archive, t.Size, t.ChunkSize)
	for k := 0; k < len(t.Slots); {
		end := k + 1
		for end < len(t.Slots) && t.Slots[end] == t.Slots[end-1]+1 {
			end++
		}
		dst = strconv.AppendInt(dst, int64(t.Slots[k]), 10)
		if end-k > 1 {
			dst = append(dst, '-')
			dst = strconv.AppendInt(dst, int64(t.Slots[end-1]), 10)
		}
		dst = append(dst, '\n')
		k = end
	}
	return dst
}

// ParseTrace decodes a trace.
func ParseTrace(b []byte) (*Trace, error) {
	if len(b) > maxTraceFile {
		return nil, fmt.Errorf("%w: %d bytes, the longest has %d", ErrTrace, len(b), maxTraceFile)
	}
	p := traceParser{rest: b}
	t := &Trace{}
	if line, ok := p.line(); !ok || string(line) != traceMagic {
		return nil, fmt.Errorf("%w: it does not begin with the line %q", ErrTrace, traceMagic)
	}
	name, err := p.field("archive")
	if err != nil {
		return nil, err
	}
	if t.Archive, err = names.ParseArchive(name); err != nil || t.Archive.Kind() != names.Fidx {
		return nil, fmt.Errorf("%w: line %d: %q is not the name of a disk image", ErrTrace, p.no, name)
	}
	if t.Size, err = p.number("size"); err != nil {
		return nil, err
	}
	if t.ChunkSize, err = p.number("chunk"); err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for line, ok := p.line(); ok; line, ok = p.line() {
		first, last, err := t.slots(line)
		if err == nil && last-first >= MaxTrace-len(t.Slots) {
			err = fmt.Errorf("more than %d slots", MaxTrace)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrTrace, p.no, err)
		}
		for s := first; s <= last; s++ {
			if seen[s] {
				return nil, fmt.Errorf("%w: line %d: slot %d comes twice", ErrTrace, p.no, s)
			}
			seen[s] = true
			t.Slots = append(t.Slots, s)
		}
	}
	if len(p.rest) > 0 {
		return nil, fmt.Errorf("%w: it ends in the middle of a line", ErrTrace)
	}
	return t, nil
}

// slots decodes a line of the list.
func (t *Trace) slots(line []byte) (first, last int, err error) {
	from, to, isRange := bytes.Cut(line, []byte("-"))
	a, err := decimal(from)
	b := a
	if err == nil && isRange {
		b, err = decimal(to)
	}
	count := (t.Size-1)/t.ChunkSize + 1
	switch {
	case err != nil:
		return 0, 0, err
	case isRange && b <= a:
		return 0, 0, fmt.Errorf("range %q does not rise", line)
	case b >= count || b > math.MaxInt-1: // the latter on small machines
		return 0, 0, fmt.Errorf("slot %d of %d", b, count)
	}
	return int(a), int(b), nil
}

// traceParser walks over lines that all end in a newline.
type traceParser struct {
	rest []byte
	no   int
}

func (p *traceParser) line() ([]byte, bool) {
	line, rest, ok := bytes.Cut(p.rest, []byte("\n"))
	if !ok {
		return nil, false
	}
	p.rest = rest
	p.no++
	return line, true
}

func (p *traceParser) field(key string) (string, error) {
	line, ok := p.line()
	value, found := bytes.CutPrefix(line, []byte(key+" "))
	if !ok || !found {
		return "", fmt.Errorf("%w: line %d is not %q and a value", ErrTrace, p.no, key)
	}
	return string(value), nil
}

func (p *traceParser) number(key string) (int64, error) {
	value, err := p.field(key)
	if err != nil {
		return 0, err
	}
	n, err := decimal([]byte(value))
	if err == nil && n == 0 {
		err = errors.New("it is zero")
	}
	if err != nil {
		return 0, fmt.Errorf("%w: line %d: %s: %w", ErrTrace, p.no, key, err)
	}
	return n, nil
}

// decimal accepts what is written here: digits, without sign or leading zero.
func decimal(b []byte) (int64, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(b) || n < 0 {
		return 0, fmt.Errorf("%.40q is not a number", b)
	}
	return n, nil
}

// LoadTrace reads a trace from a file.
func LoadTrace(path string) (*Trace, error) {
	info, err := os.Stat(path) // a pipe would never end
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxTraceFile {
		return nil, fmt.Errorf("read trace %s: %w: it is no regular file of at most %d bytes", path, ErrTrace, maxTraceFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	t, err := ParseTrace(b)
	if err != nil {
		return nil, fmt.Errorf("read trace %s: %w", path, err)
	}
	return t, nil
}

// Save writes a trace to a file, in the place of one that is there.
func (t *Trace) Save(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".trace-*.tmp")
	if err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it may be closed
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write trace %s: %w", path, err)
		}
	}()
	if _, err := f.Write(t.Append(nil)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
