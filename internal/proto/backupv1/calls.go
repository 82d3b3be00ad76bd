package backupv1

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Upload is POST fixed_chunk and POST dynamic_chunk.
type Upload struct {
	Wid     int
	Digest  digest.Digest
	Size    int // plain bytes
	Encoded int // bytes of the body
}

// ParseUpload reads the parameters.
func ParseUpload(p *rest.Params) (Upload, error) {
	u := Upload{
		Wid:     wid(p),
		Digest:  rest.Need(p, "digest", digest.Parse),
		Size:    int(rest.Need(p, "size", rest.Int(1, MaxChunk))),
		Encoded: int(rest.Need(p, "encoded-size", rest.Int(blob.HeaderSize+1, MaxEncoded))),
	}
	return u, p.Err()
}

// Values is the inverse of ParseUpload.
func (u Upload) Values() url.Values {
	return url.Values{
		"wid": {strconv.Itoa(u.Wid)}, "digest": {u.Digest.String()},
		"size": {strconv.Itoa(u.Size)}, "encoded-size": {strconv.Itoa(u.Encoded)},
	}
}

// Blob is POST blob.
type Blob struct {
	Name    names.Archive
	Encoded int // bytes of the body
}

// ParseBlob reads the parameters.
func ParseBlob(p *rest.Params) (Blob, error) {
	b := Blob{
		Name:    rest.Need(p, "file-name", archive(names.Blob)),
		Encoded: int(rest.Need(p, "encoded-size", rest.Int(blob.HeaderSize, MaxEncoded))),
	}
	return b, p.Err()
}

// Values is the inverse of ParseBlob.
func (b Blob) Values() url.Values {
	return url.Values{"file-name": {string(b.Name)}, "encoded-size": {strconv.Itoa(b.Encoded)}}
}

// CreateDynamic is POST dynamic_index.
type CreateDynamic struct{ Name names.Archive }

// ParseCreateDynamic reads the parameters.
func ParseCreateDynamic(p *rest.Params) (CreateDynamic, error) {
	c := CreateDynamic{Name: rest.Need(p, "archive-name", archive(names.Didx))}
	return c, p.Err()
}

// Values is the inverse of ParseCreateDynamic.
func (c CreateDynamic) Values() url.Values { return url.Values{"archive-name": {string(c.Name)}} }

// CreateFixed is POST fixed_index.
type CreateFixed struct {
	Name  names.Archive
	Size  int64         // of the image; 0: it shows as it comes
	Reuse digest.Digest // checksum of the previous index to begin with; zero: none
}

// ParseCreateFixed reads the parameters.
func ParseCreateFixed(p *rest.Params) (CreateFixed, error) {
	c := CreateFixed{
		Name:  rest.Need(p, "archive-name", archive(names.Fidx)),
		Size:  rest.Get(p, "size", 0, rest.Int(1, math.MaxInt64)),
		Reuse: rest.Get(p, "reuse-csum", digest.Digest{}, digest.Parse),
	}
	return c, p.Err()
}

// Values is the inverse of ParseCreateFixed.
func (c CreateFixed) Values() url.Values {
	q := url.Values{"archive-name": {string(c.Name)}}
	if c.Size > 0 {
		q.Set("size", strconv.FormatInt(c.Size, 10))
	}
	if !c.Reuse.IsZero() {
		q.Set("reuse-csum", c.Reuse.String())
	}
	return q
}

// Append is PUT fixed_index and PUT dynamic_index.
type Append struct {
	Wid     int             `json:"wid"`
	Digests []digest.Digest `json:"digest-list"`
	Offsets []uint64        `json:"offset-list"` // where the chunks begin, one for each digest
}

// ParseAppend reads the parameters.
func ParseAppend(p *rest.Params) (Append, error) {
	a := Append{
		Wid:     wid(p),
		Digests: rest.List(p, "digest-list", digest.Parse),
		Offsets: rest.List(p, "offset-list", offset),
	}
	if len(a.Digests) != len(a.Offsets) {
		p.Wrong("offset-list", "%d offsets for %d digests", len(a.Offsets), len(a.Digests))
	}
	return a, p.Err()
}

func offset(s string) (uint64, error) {
	n, err := rest.Int(0, math.MaxInt64)(s)
	return uint64(n), err
}

// JSON is the body that ParseAppend reads.
func (a Append) JSON() ([]byte, error) { return json.Marshal(a) }

// Close is POST fixed_close and POST dynamic_close.
type Close struct {
	Wid   int
	Count uint64 // appended entries
	Size  uint64 // bytes
	Csum  digest.Digest
}

// ParseClose reads the parameters.
func ParseClose(p *rest.Params) (Close, error) {
	c := Close{
		Wid:   wid(p),
		Count: rest.Need(p, "chunk-count", offset),
		Size:  rest.Need(p, "size", offset),
		Csum:  rest.Need(p, "csum", digest.Parse),
	}
	return c, p.Err()
}

// Values is the inverse of ParseClose.
func (c Close) Values() url.Values {
	return url.Values{
		"wid": {strconv.Itoa(c.Wid)}, "chunk-count": {strconv.FormatUint(c.Count, 10)},
		"size": {strconv.FormatUint(c.Size, 10)}, "csum": {c.Csum.String()},
	}
}

// ParsePrevious reads the parameter of GET previous.
func ParsePrevious(p *rest.Params) (names.Archive, error) {
	name := rest.Need(p, "archive-name", names.ParseArchive)
	return name, p.Err()
}

func wid(p *rest.Params) int { return int(rest.Need(p, "wid", rest.Int(1, MaxWriters))) }

// archive takes the name of an archive of one kind.
func archive(kind names.Kind) func(string) (names.Archive, error) {
	return func(s string) (names.Archive, error) {
		a, err := names.ParseArchive(s)
		if err != nil {
			return "", err
		}
		if a.Kind() != kind {
			return "", fmt.Errorf("wrong archive extension: %q, want .%s", s, kind)
		}
		return a, nil
	}
}
