package tape

// DataKey is the key that a drive encrypts a media set with, derived from the
// tape key and the set. It does not print itself.
type DataKey struct{ k [32]byte }

// NewDataKey makes a key of its bytes.
func NewDataKey(k [32]byte) DataKey { return DataKey{k} }

// Bytes is the key itself.
func (d DataKey) Bytes() [32]byte { return d.k }

func (DataKey) String() string   { return "tape.DataKey(redacted)" }
func (DataKey) GoString() string { return "tape.DataKey(redacted)" }

// Keys gives the keys of media sets to a drive in this process.
type Keys interface {
	// DataKey derives the key; repo.ErrNotFound if the tape key is not known.
	DataKey(k KeyOf) (DataKey, error)
}
