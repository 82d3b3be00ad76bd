package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Bounds of what is read. Nothing that is written comes near them.
const (
	maxKey   = 4 << 10
	maxEntry = 64 << 20
)

const (
	logPrefix   = "log/"
	statePrefix = "state/"
	clockPrefix = "clock/"
)

// name is the key of the object with number n.
func name(prefix string, n uint64) string { return fmt.Sprintf("%s%016x", prefix, math.MaxUint64-n) }

// number is what name had; false for other objects.
func number(prefix, key string) (uint64, bool) {
	if len(key) != len(prefix)+16 || key[:len(prefix)] != prefix {
		return 0, false
	}
	n, err := strconv.ParseUint(key[len(prefix):], 16, 64)
	n = math.MaxUint64 - n
	return n, err == nil && name(prefix, n) == key
}

// entry is one change of the state.
type entry struct {
	N    uint64                     `json:"n"`
	Prev digest.Digest              `json:"prev"`
	By   string                     `json:"by"`
	At   time.Time                  `json:"at"`
	Set  map[string]json.RawMessage `json:"set,omitempty"`
	Del  []string                   `json:"del,omitempty"`
}

// canonical is a JSON value as entries have it.
func canonical(value []byte) ([]byte, error) {
	if !utf8.Valid(value) {
		return nil, errors.New("the value is not UTF-8")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil {
		return nil, fmt.Errorf("the value is not JSON: %w", err)
	}
	return b.Bytes(), nil
}

// format gives the bytes of an entry, whose values are canonical, and its sum.
func (e entry) format() ([]byte, digest.Digest, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the values stay what they are
	if err := enc.Encode(e); err != nil {
		return nil, digest.Digest{}, err
	}
	if b.Len() > maxEntry-128 {
		return nil, digest.Digest{}, fmt.Errorf("the change has %d bytes, at most %d are allowed", b.Len(), maxEntry-128)
	}
	sum := digest.Of(b.Bytes()[:b.Len()-1])
	fmt.Fprintf(&b, "%s\n", sum)
	return b.Bytes(), sum, nil
}

// parseEntry reads entry n.
func parseEntry(b []byte, n uint64) (e entry, sum digest.Digest, err error) {
	line, rest, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return e, sum, errors.New("it is cut off")
	}
	sum = digest.Of(line)
	if string(rest) != sum.String()+"\n" {
		return e, sum, errors.New("its checksum does not fit")
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields() // a program that does not know them would leave out a part of the change
	if err := dec.Decode(&e); err != nil {
		return e, sum, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return e, sum, errors.New("something follows the change")
	}
	if e.N != n {
		return e, sum, fmt.Errorf("it is entry %d", e.N)
	}
	return e, sum, e.check()
}

// check refuses what no writer makes.
func (e entry) check() error {
	bad := func(key string) bool { return key == "" || len(key) > maxKey || !utf8.ValidString(key) }
	for key, value := range e.Set {
		if c, err := canonical(value); err != nil || bad(key) || !bytes.Equal(c, value) {
			return fmt.Errorf("it sets %q in a form that nobody writes", key)
		}
	}
	for _, key := range e.Del {
		if _, both := e.Set[key]; both || bad(key) {
			return fmt.Errorf("it deletes %q, which nobody does", key)
		}
	}
	return nil
}
