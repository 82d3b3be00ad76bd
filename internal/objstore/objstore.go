// Package objstore is what a repository may ask of an object store: ten calls
// of S3 at most, behind one interface.
//
// Implementations: objstore/s3 talks to a server, objstore/mem is a model in
// memory for tests and simulations. Decorators add one thing each: objstore/retry
// tries again, objstore/meter counts. Package objtest holds implementations to
// what is said here.
//
// # What an object store promises
//
// Objects are whole or absent: a Put that fails may have stored all of the body
// or nothing, never a part. After a Put returned, every Get, Stat and List sees
// it (the strong consistency that S3 and the usual engines have today; the
// repository's probe tests a provider for it). List answers in the order of the
// keys' bytes.
//
// # Failures
//
// [ErrNotFound] and [ErrPrecondition] are answers. [ErrDenied] is one that
// trying again does not change. A [*BusyError] is a store that asks for less
// or later. Everything else leaves open what became of the call: a Put or Delete
// may have happened.
package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// The kinds of failure that callers tell apart.
var (
	ErrNotFound     = errors.New("no such object")
	ErrPrecondition = errors.New("the object is not as expected") // the condition of a Put does not hold
	ErrDenied       = errors.New("the object store refuses")      // credentials, permissions, retention
	ErrBucket       = errors.New("no such bucket")
	ErrKey          = errors.New("not a key of an object")
	ErrTooMany      = errors.New("too many keys for one removal")
	ErrClock        = errors.New("the object store does not believe this machine's clock")
	ErrUntrusted    = errors.New("no authority that this machine trusts has signed the object store's certificate")
)

// BusyError is a store that is asked too much or cannot answer now. What was
// asked for was not done.
type BusyError struct {
	After time.Duration // how long to wait, where it says so
	Err   error
}

func (e *BusyError) Error() string { return fmt.Sprintf("the object store is busy: %v", e.Err) }
func (e *BusyError) Unwrap() error { return e.Err }

// Limits of S3.
const (
	MaxKey    = 1024    // bytes of a key
	MaxDelete = 1000    // keys of one Delete
	MaxPut    = 5 << 30 // bytes of one Put
)

// Store is a bucket, or what lies below a prefix of one. All methods are safe
// for concurrent use.
type Store interface {
	// Location names the store for people.
	Location() string
	// Get opens n bytes of an object from off; n < 0 is all to the end. A range
	// that reaches behind the end is cut; one that begins there is ErrNotFound,
	// unless it is empty. Reading ends with io.EOF only when all
	// was there; a connection that broke is io.ErrUnexpectedEOF.
	Get(ctx context.Context, key string, off, n int64) (Object, error)
	// Put stores an object under a condition. The body can be read several
	// times.
	Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
	// List gives up to limit (at most 1000) objects whose keys begin with prefix
	// and lie behind after, in the order of their keys. more is false when nothing
	// follows; true may still lead to an empty list.
	List(ctx context.Context, prefix, after string, limit int) (list []Info, more bool, err error)
	// Delete removes up to MaxDelete objects. One that is not there is removed.
	// The error names the keys that were not removed, as a DeleteError, or
	// nothing is known of any.
	Delete(ctx context.Context, keys []string) error
	// Retain keeps an object from being removed or replaced until a time; a
	// retention can be prolonged, never shortened. ErrDenied where the bucket has
	// no object lock.
	Retain(ctx context.Context, key string, r Retention) error
}

// Body is the content of an object to be stored; *bytes.Reader is one.
type Body interface {
	io.ReaderAt
	Size() int64
}

// Object is an object being read.
type Object struct {
	Info
	io.ReadCloser
}

// Info describes an object.
type Info struct {
	Key      string
	Size     int64     // bytes, of the whole object
	Tag      string    // changes with the content: the ETag
	Modified time.Time // by the clock of the store
}

// PutOptions say how an object is stored.
type PutOptions struct {
	If     Condition
	Class  string    // storage class; "": the bucket's own
	Retain Retention // object lock from the start; zero: none
}

// Condition is what a Put asks of the object that is there.
type Condition struct {
	absent bool
	tag    string
}

// Conditions of a Put. The zero value asks for nothing.
var (
	IfAbsent = Condition{absent: true} // no object has the key
)

// IfTag asks for the object with this tag to be there.
func IfTag(tag string) Condition { return Condition{tag: tag} }

// Absent reports whether no object may be there.
func (c Condition) Absent() bool { return c.absent }

// Tag is the tag that must be there, "" if none is asked for.
func (c Condition) Tag() string { return c.tag }

// Any reports whether nothing is asked for.
func (c Condition) Any() bool { return c == Condition{} }

// Retention is how long an object cannot be removed.
type Retention struct {
	Mode  RetentionMode
	Until time.Time
}

// IsZero reports whether there is none.
func (r Retention) IsZero() bool { return r.Mode == 0 }

// RetentionMode says who can end a retention early.
type RetentionMode int

// The modes of object lock.
const (
	Governance RetentionMode = iota + 1 // who has a special right
	Compliance                          // nobody
)

// DeleteError is the keys that a Delete left, each with its reason.
type DeleteError map[string]error

func (e DeleteError) Error() string {
	for key, err := range e {
		if len(e) == 1 {
			return fmt.Sprintf("object %s was not removed: %v", key, err)
		}
		return fmt.Sprintf("%d objects were not removed; one of them is %s: %v", len(e), key, err)
	}
	return "no object was left"
}

func (e DeleteError) Unwrap() []error {
	var list []error
	for _, err := range e {
		list = append(list, err)
	}
	return list
}

// CheckKey refuses what some stores or clients take for something else: keys
// that are empty or too long, that are no UTF-8 or hold control characters, and
// those with empty, "." or ".." parts. Prefixes are not keys.
func CheckKey(key string) error {
	if reason := badKey(key); reason != "" {
		return fmt.Errorf("%w: %q %s", ErrKey, key, reason)
	}
	return nil
}
