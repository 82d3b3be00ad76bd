package tfa

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// recovery are recovery codes as they are kept.
type recovery struct {
	Secret  string    `json:"secret"`
	Entries []*string `json:"entries"`
	Created int64     `json:"created"` // seconds since 1970
}

const recoveryCodes = 10

func newRecovery(now time.Time, rand io.Reader) (*recovery, []string, error) {
	random := make([]byte, 8*(1+recoveryCodes))
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, nil, fmt.Errorf("recovery codes: %w", err)
	}
	r := &recovery{Secret: hex.EncodeToString(random[:8]), Created: now.Unix()}
	var codes []string
	for i := 1; i <= recoveryCodes; i++ {
		b := random[8*i : 8*i+8]
		code := fmt.Sprintf("%x-%x-%x-%x", b[:2], b[2:4], b[4:6], b[6:])
		hash := r.hash(code)
		r.Entries = append(r.Entries, &hash)
		codes = append(codes, code)
	}
	return r, codes, nil
}

func (r *recovery) hash(code string) string {
	h := hmac.New(sha256.New, []byte(r.Secret))
	_, _ = io.WriteString(h, code)
	return hex.EncodeToString(h.Sum(nil))
}

// use takes a code out and reports whether it was good.
func (r *recovery) use(code string) bool {
	hash := []byte(r.hash(code))
	for i, e := range r.Entries {
		if e != nil && hmac.Equal([]byte(*e), hash) {
			r.Entries[i] = nil
			return true
		}
	}
	return false
}

// left returns the indexes of the codes that are still good.
func (r *recovery) left() []int {
	left := []int{}
	for i, e := range r.Entries {
		if e != nil {
			left = append(left, i)
		}
	}
	return left
}
