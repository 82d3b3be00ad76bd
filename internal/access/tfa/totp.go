package tfa

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/access/percent"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// TOTP is an authenticator: what it needs to make one-time passwords.
type TOTP struct {
	Secret    secret.Secret
	Algorithm string // "SHA1", "SHA256" or "SHA512"
	Digits    int    // of a code
	Period    int64  // seconds that a code is for
	Issuer    string // for people; may be empty
	Account   string // for people
}

// New makes an authenticator with a secret of 160 bits.
func New(issuer, account string, rand io.Reader) (TOTP, error) {
	key := make([]byte, sha1.Size)
	if _, err := io.ReadFull(rand, key); err != nil {
		return TOTP{}, fmt.Errorf("secret of an authenticator: %w", err)
	}
	return TOTP{secret.New(key), "SHA1", 6, 30, issuer, account}, nil
}

const scheme = "otpauth://totp/"

var base = base32.StdEncoding.WithPadding(base32.NoPadding)

// URI is the text that authenticators read from a QR code. It holds the secret.
func (t TOTP) URI() string {
	label, issuer := escape(t.Account), ""
	if t.Issuer != "" {
		label = escape(t.Issuer) + ":" + label
		issuer = "&issuer=" + escape(t.Issuer)
	}
	return fmt.Sprintf("%s%s?secret=%s&digits=%d&algorithm=%s&period=%d%s",
		scheme, label, base.EncodeToString(t.Secret.Reveal()), t.Digits, t.Algorithm, t.Period, issuer)
}

// escape writes all but letters and digits as %XX.
func escape(s string) string {
	return percent.Encode(s, func(c byte) bool {
		return !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
	})
}

// ParseTOTP reads what URI writes.
func ParseTOTP(uri string) (TOTP, error) {
	bad := func(why string) (TOTP, error) {
		return TOTP{}, fmt.Errorf("%w: the otpauth URI %s", ErrFormat, why) // without its text: it holds a secret
	}
	rest, ok := strings.CutPrefix(uri, scheme)
	label, query, also := strings.Cut(rest, "?")
	if !ok || !also {
		return bad("has another form than otpauth://totp/<account>?<parameters>")
	}
	t := TOTP{Algorithm: "SHA1", Digits: 6, Period: 30}
	issuer, account, both := strings.Cut(label, ":")
	if !both {
		issuer, account = "", label
	}
	t.Issuer, t.Account = percent.Decode(issuer), percent.Decode(account)
	for pair := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(pair, "=")
		value := percent.Decode(text)
		var err error
		switch key {
		case "secret":
			var key []byte
			key, err = base.DecodeString(strings.ToUpper(strings.TrimRight(value, "=")))
			t.Secret = secret.New(key)
		case "digits":
			t.Digits, err = strconv.Atoi(value)
		case "period":
			t.Period, err = strconv.ParseInt(value, 10, 32)
		case "algorithm":
			t.Algorithm = strings.ToUpper(value)
		case "issuer":
			t.Issuer = value
		default:
			return bad("has an unknown parameter")
		}
		if err != nil {
			return bad("has a damaged " + key)
		}
	}
	switch {
	case !utf8.ValidString(t.Issuer + t.Account):
		return bad("has names that are not UTF-8")
	case t.Secret.Empty():
		return bad("has no secret")
	case t.Digits < 1 || t.Digits > 9:
		return bad("wants codes that do not have 1 to 9 digits")
	case t.Period < 1:
		return bad("has codes for no time")
	case t.hash() == nil:
		return bad("has an unknown algorithm")
	}
	return t, nil
}

// enrol refuses what is too weak to be added.
func (t TOTP) enrol() error {
	switch {
	case len(t.Secret.Reveal()) < 10:
		return fmt.Errorf("%w: the secret has less than 80 bits", ErrFormat)
	case t.Digits < 6 || t.Digits > 8:
		return fmt.Errorf("%w: a code has 6 to 8 digits", ErrFormat)
	case t.Period < 10 || t.Period > 120:
		return fmt.Errorf("%w: a code is for 10 to 120 seconds", ErrFormat)
	case t.hash() == nil:
		return fmt.Errorf("%w: unknown algorithm", ErrFormat)
	}
	return nil
}

func (t TOTP) hash() func() hash.Hash {
	switch t.Algorithm {
	case "SHA1":
		return sha1.New
	case "SHA256":
		return sha256.New
	case "SHA512":
		return sha512.New
	}
	return nil
}

// Code returns the one-time password of a counter.
func (t TOTP) Code(count int64) string {
	h := hmac.New(t.hash(), t.Secret.Reveal())
	_ = binary.Write(h, binary.BigEndian, count)
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	digits := fmt.Sprintf("%010d", n)
	return digits[len(digits)-t.Digits:]
}

// Check returns the counter of a code, if it is one of now, or of the period
// before or after.
func (t TOTP) Check(code string, now time.Time) (count int64, ok bool) {
	middle := now.Unix() / t.Period
	for c := middle - 1; c <= middle+1; c++ {
		if c >= 0 && subtle.ConstantTimeCompare([]byte(code), []byte(t.Code(c))) == 1 {
			count, ok = c, true // and no return: the time tells nothing
		}
	}
	return count, ok
}
