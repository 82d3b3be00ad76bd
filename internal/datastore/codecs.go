package datastore

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// codecs lends encoders and decoders for the small blobs that the store reads
// and writes itself, for making one costs more than using it. They hold no key.
type codecs struct {
	mu  sync.Mutex
	enc []*blob.Encoder
	dec []*blob.Decoder
}

// decode returns the plain content of an unencrypted blob.
func (c *codecs) decode(raw []byte, limit int) ([]byte, error) {
	c.mu.Lock()
	var d *blob.Decoder
	if n := len(c.dec); n > 0 {
		d, c.dec = c.dec[n-1], c.dec[:n-1]
	}
	c.mu.Unlock()
	if d == nil {
		var err error
		if d, err = blob.NewDecoder(nil); err != nil {
			return nil, err
		}
	}
	plain, err := d.Append(nil, raw, limit)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dec = append(c.dec, d)
	return plain, err
}

// encode returns an unencrypted, compressed blob.
func (c *codecs) encode(plain []byte) ([]byte, error) {
	c.mu.Lock()
	var e *blob.Encoder
	if n := len(c.enc); n > 0 {
		e, c.enc = c.enc[n-1], c.enc[:n-1]
	}
	c.mu.Unlock()
	if e == nil {
		var err error
		if e, err = blob.NewEncoder(nil, nil, true); err != nil {
			return nil, err
		}
	}
	raw, err := e.Append(nil, plain)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enc = append(c.enc, e)
	return raw, err
}

func (c *codecs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.enc {
		e.Close()
	}
	for _, d := range c.dec {
		d.Close()
	}
	c.enc, c.dec = nil, nil
}
