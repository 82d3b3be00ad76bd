package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/tidwall/btree"
)

// State is what all entries up to one made. It never changes, and copies are cheap. The
// zero value is the state before the first entry.
type State struct {
	seq  uint64
	sum  digest.Digest // of that entry
	tree *btree.Map[string, []byte]
}

// Seq is the number of the last entry; 0: none.
func (s State) Seq() uint64 { return s.seq }

// Get is the value of a key, as JSON. It must not be changed.
func (s State) Get(key string) ([]byte, bool) {
	if s.tree == nil {
		return nil, false
	}
	return s.tree.Get(key)
}

// Scan gives all keys that begin with prefix, in their order, with their values.
func (s State) Scan(prefix string) iter.Seq2[string, []byte] { return scan(s.tree, prefix) }

func scan(tree *btree.Map[string, []byte], prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if tree == nil {
			return
		}
		tree.Ascend(prefix, func(key string, value []byte) bool {
			return strings.HasPrefix(key, prefix) && yield(key, value)
		})
	}
}

// with is the state after the next entry. Of all calls on one state only one may run at a
// time: a copy touches what it is of.
func (s State) with(e entry, sum digest.Digest) State {
	next := State{seq: e.N, sum: sum, tree: s.fork()}
	for key, value := range e.Set {
		next.tree.Set(key, value)
	}
	for _, key := range e.Del {
		next.tree.Delete(key)
	}
	return next
}

func (s State) fork() *btree.Map[string, []byte] {
	if s.tree == nil {
		return new(btree.Map[string, []byte])
	}
	return s.tree.Copy()
}

// Tx is a state and the changes that are to be made of it. It is not safe for concurrent
// use, and ends with the function that got it.
type Tx struct {
	base State
	tree *btree.Map[string, []byte]
	keys map[string]struct{} // that were touched
	err  error
}

func newTx(base State) *Tx {
	return &Tx{base: base, tree: base.fork(), keys: map[string]struct{}{}}
}

// Seq is the number that the entry gets.
func (t *Tx) Seq() uint64 { return t.base.seq + 1 }

// Get is the value of a key with the changes so far. It must not be changed.
func (t *Tx) Get(key string) ([]byte, bool) { return t.tree.Get(key) }

// Scan is State.Scan with the changes so far. A loop over it may change what it goes
// over, and sees the state from before it began.
func (t *Tx) Scan(prefix string) iter.Seq2[string, []byte] { return scan(t.tree.Copy(), prefix) }

// Set gives a key a value, which is JSON and belongs to the ledger from then on. What is
// wrong with either is told by Update.
func (t *Tx) Set(key string, value []byte) {
	compact, err := canonical(value)
	switch {
	case key == "" || !utf8.ValidString(key):
		err = errors.New("it is empty or not UTF-8")
	case len(key) > maxKey:
		err = fmt.Errorf("it has %d bytes, at most %d are allowed", len(key), maxKey)
	}
	if err != nil {
		t.err = errors.Join(t.err, fmt.Errorf("the key %q cannot be set: %w", key, err))
		return
	}
	t.tree.Set(key, compact)
	t.keys[key] = struct{}{}
}

// Delete removes a key, if it is there.
func (t *Tx) Delete(key string) {
	t.tree.Delete(key)
	t.keys[key] = struct{}{}
}

// entry is what makes the changes, without those that change nothing.
func (t *Tx) entry() (e entry, changed bool) {
	e = entry{N: t.Seq(), Prev: t.base.sum, Set: map[string]json.RawMessage{}}
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		was, had := t.base.Get(key)
		value, has := t.tree.Get(key)
		switch {
		case has && !(had && bytes.Equal(was, value)):
			e.Set[key] = value
		case had && !has:
			e.Del = append(e.Del, key)
		}
	}
	return e, len(e.Set)+len(e.Del) > 0
}
