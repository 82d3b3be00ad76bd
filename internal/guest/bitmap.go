package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Prefix begins everything that is put into a guest: bitmaps, nodes, jobs.
const Prefix = "holdfast-"

// ErrBitmap is wrapped when a name is not that of a bitmap of ours.
var ErrBitmap = errors.New("not a bitmap of Holdfast")

const ownerSize, tokenSize = 16, 8 // hex digits

// Owner stands for a group of a repository: 16 hex digits.
type Owner string

// OwnerOf is the owner for a group. repository is any text that stays the same
// for one repository; where two have the same they take each other's bitmaps
// for leftovers, and nothing worse.
func OwnerOf(repository string, ns names.Namespace, g names.Group) Owner {
	sum := sha256.Sum256([]byte(repository + "\x00" + names.GroupPath(ns, g)))
	return Owner(hex.EncodeToString(sum[:])[:ownerSize])
}

// Bitmap is the name of a bitmap, see the package comment.
type Bitmap string

// NewBitmap makes a name that no other bitmap has.
func NewBitmap(o Owner, time int64, random io.Reader) (Bitmap, error) {
	var token [tokenSize / 2]byte
	if _, err := io.ReadFull(random, token[:]); err != nil {
		return "", fmt.Errorf("name a bitmap: %w", err)
	}
	return Bitmap(fmt.Sprintf("%s%s-%d-%x", Prefix, o, time, token)), nil
}

// ParseBitmap takes a name from outside. Others' bitmaps are ErrBitmap.
func ParseBitmap(s string) (Bitmap, error) {
	_, _, err := split(s)
	return Bitmap(s), err
}

// Owner is whose bitmap it is.
func (b Bitmap) Owner() Owner {
	o, _, _ := split(string(b)) // a Bitmap parses
	return o
}

// Time is that of the snapshot that it began with, in seconds since 1970.
func (b Bitmap) Time() int64 {
	_, t, _ := split(string(b)) // a Bitmap parses
	return t
}

func split(s string) (Owner, int64, error) {
	rest, ours := strings.CutPrefix(s, Prefix)
	part := strings.Split(rest, "-")
	if !ours || len(part) != 3 || !isHex(part[0], ownerSize) || !isHex(part[2], tokenSize) {
		return "", 0, fmt.Errorf("%w: %.80q", ErrBitmap, s)
	}
	t, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil || strconv.FormatInt(t, 10) != part[1] {
		return "", 0, fmt.Errorf("%w: %.80q", ErrBitmap, s)
	}
	return Owner(part[0]), t, nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
