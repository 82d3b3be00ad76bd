package stores

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// The types of backends.
const (
	Filesystem = "filesystem"
	S3         = "s3"
)

// Backend is what holds a store.
type Backend struct {
	Type           string
	Client, Bucket string // of s3: an object store of s3.cfg, and a bucket in it
	Prefix         string // what keys begin with; "": the name of the datastore
	Cache          int64  // bytes; 0: none
}

// ParseBackend reads the text of the property backend; "" is a directory.
func ParseBackend(text string) (Backend, error) {
	b := Backend{Type: Filesystem}
	if text == "" {
		return b, nil
	}
	p, err := sectionconfig.ParseProperties(text, "type")
	if err != nil {
		return b, err
	}
	for _, one := range p {
		switch one.Key {
		case "type":
			b.Type = one.Value
		case "client":
			b.Client = one.Value
		case "bucket":
			b.Bucket = one.Value
		case "prefix":
			b.Prefix = strings.Trim(one.Value, "/")
		case "max-cache-size":
			if b.Cache, err = property.ParseRate(one.Value); err != nil {
				return b, errors.New("max-cache-size: want bytes, as 64GiB")
			}
		}
	}
	switch {
	case b.Type != Filesystem && b.Type != S3:
		return b, fmt.Errorf("it is %q, and this server has filesystem and s3", b.Type)
	case b.Type == S3 && (b.Client == "" || b.Bucket == ""):
		return b, errors.New("s3 needs client=ID and bucket=NAME")
	}
	return b, nil
}

// Backend is what holds the store.
func (c Config) Backend() (Backend, error) {
	text, _ := c.section.Get("backend")
	b, err := ParseBackend(text)
	if err != nil {
		return b, fmt.Errorf("backend %q: %w", text, err)
	}
	if b.Type == S3 && b.Prefix == "" {
		b.Prefix = c.Name
	}
	return b, nil
}

// BackendType is filesystem or s3, or what the file says that is neither.
func (c Config) BackendType() string {
	b, _ := c.Backend()
	return b.Type
}

// overlaps reports whether two stores would lie in one another.
func (b Backend) overlaps(o Backend) bool {
	return b.Type == S3 && o.Type == S3 && b.Client == o.Client && b.Bucket == o.Bucket &&
		(b.Prefix == o.Prefix || within(b.Prefix, o.Prefix) || within(o.Prefix, b.Prefix))
}
