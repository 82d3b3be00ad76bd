// Package paperkey prints keys on paper: as text that a person can type again
// and as QR codes that a telephone can read.
//
// # Encryption key
//
// The indented key file between two lines:
//
//	-----BEGIN PROXMOX BACKUP KEY-----
//	{
//	  "kdf": ...
//	}
//	-----END PROXMOX BACKUP KEY-----
//
// and one QR code that holds the lines between these two, joined by line feeds.
//
// # Master key
//
// The lines of a private key in PEM form ("ENCRYPTED PRIVATE KEY" or "RSA
// PRIVATE KEY", at least 20 lines), numbered from 1, in blocks of 5 (text, with a
// form feed behind each block) or 20 (HTML, one page for each block). Each block
// has a QR code with its lines, without numbers, joined by line feeds.
//
// # Both
//
// A line "Subject: ..." comes first if there is a subject. QR codes have error
// correction level M. In text they are drawn with half-block characters, dark
// modules as ink; in HTML as inline SVG. Neither refers to anything outside.
//
// # Errors
//
// [ErrFormat] is wrapped for input that is neither kind of key; other errors
// come from the writer.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/paperkey.rs.
package paperkey

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"rsc.io/qr"

	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
)

// ErrFormat is wrapped for input that cannot be printed.
var ErrFormat = errors.New("no key to print")

const (
	beginKey = "-----BEGIN PROXMOX BACKUP KEY-----"
	endKey   = "-----END PROXMOX BACKUP KEY-----"

	minMasterLines = 20
	textBlock      = 5  // lines of a master key
	htmlBlock      = 20 // the same
	maxSubject     = 128
)

// document is a key ready to be laid out.
type document struct {
	subject string
	lines   []string
	master  bool
}

// newDocument looks at what kind of key there is.
func newDocument(key []byte, subject string) (document, error) {
	if !utf8.ValidString(subject) || len(subject) > maxSubject || strings.ContainsFunc(subject, unicode.IsControl) {
		return document{}, fmt.Errorf("%w: subject %.200q: want at most %d bytes on one line", ErrFormat, subject, maxSubject)
	}
	if len(key) > keyfile.MaxSize {
		return document{}, fmt.Errorf("%w: %d bytes", ErrFormat, len(key))
	}
	text := strings.ReplaceAll(string(key), "\r\n", "\n")
	if strings.HasPrefix(text, "-----BEGIN ") {
		return masterDocument(text, subject)
	}
	f, err := keyfile.Parse(key)
	if err != nil {
		return document{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	pretty, err := f.MarshalIndent()
	if err != nil {
		return document{}, err
	}
	return document{subject: subject, lines: strings.Split(string(pretty), "\n")}, nil
}

func masterDocument(text, subject string) (document, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return document{}, fmt.Errorf("%w: damaged PEM block", ErrFormat)
	case block.Type != "ENCRYPTED PRIVATE KEY" && block.Type != "RSA PRIVATE KEY":
		return document{}, fmt.Errorf("%w: PEM block %.40q, want a private key", ErrFormat, block.Type)
	case strings.TrimSpace(string(rest)) != "":
		return document{}, fmt.Errorf("%w: there is something behind the private key", ErrFormat)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\r")
		if strings.ContainsFunc(lines[i], unicode.IsControl) {
			return document{}, fmt.Errorf("%w: line %d holds control characters", ErrFormat, i+1)
		}
	}
	if len(lines) < minMasterLines {
		return document{}, fmt.Errorf("%w: a master key of %d lines, want at least %d", ErrFormat, len(lines), minMasterLines)
	}
	return document{subject: subject, lines: lines, master: true}, nil
}

// code returns the QR code of some lines.
func code(lines []string) (*qr.Code, error) {
	c, err := qr.Encode(strings.Join(lines, "\n"), qr.M)
	if err != nil {
		return nil, fmt.Errorf("%w: too long for a QR code: %w", ErrFormat, err)
	}
	return c, nil
}
