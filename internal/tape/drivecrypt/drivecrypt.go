package drivecrypt

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

const timeout = time.Minute

// room for an answer; some drives refuse what is no multiple of 512.
const room = 8192

// in asks for a page.
func in(t scsi.Transport, page uint16) ([]byte, error) {
	b := make([]byte, room)
	cdb := []byte{byte(scsi.SecurityProtocolIn), 0x20, byte(page >> 8), byte(page), 0, 0, 0, 0, room >> 8, room & 0xff, 0, 0}
	n, err := t.Do(scsi.Command{CDB: cdb, Dir: scsi.In, Data: b, Timeout: timeout})
	if err != nil {
		return nil, unsupported(err)
	}
	return b[:n], nil
}

// out sends parameters, and forgets them.
func out(t scsi.Transport, b []byte) error {
	defer clear(b)
	cdb := []byte{byte(scsi.SecurityProtocolOut), 0x20, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(cdb[6:], uint32(len(b)))
	_, err := t.Do(scsi.Command{CDB: cdb, Dir: scsi.Out, Data: b, Timeout: timeout})
	return unsupported(err)
}

// unsupported marks what a drive says that has no encryption, or that lets its
// library decide.
func unsupported(err error) error {
	s, ok := scsi.AsSense(err)
	if !ok {
		return err
	}
	switch {
	case s.Key == scsi.IllegalRequest && (s.ASC == 0x20 || s.ASC == 0x24 || s.ASC == 0x26), s.Says(scsi.DataProtect, 0x740b):
		return fmt.Errorf("%w: %w", tape.ErrUnsupported, err)
	}
	return err
}

// Capabilities asks a drive for its algorithms.
func Capabilities(t scsi.Transport) ([]Algorithm, error) {
	b, err := in(t, 0x0010)
	if err != nil {
		return nil, err
	}
	return ParseCapabilities(b)
}

// Current asks a drive what it does.
func Current(t scsi.Transport) (State, error) {
	b, err := in(t, 0x0020)
	if err != nil {
		return State{}, err
	}
	return ParseState(b)
}

// NextBlock asks a drive whether it can read what comes next.
func NextBlock(t scsi.Transport) (Next, error) {
	b, err := in(t, 0x0021)
	if err != nil {
		return 0, err
	}
	return ParseNext(b)
}

// Set makes a drive encrypt what it writes and decrypt what it reads, and makes
// sure that it does.
func Set(t scsi.Transport, k tape.DataKey) error { return change(t, &k) }

// Clear takes the key out of a drive.
func Clear(t scsi.Transport) error { return change(t, nil) }

func change(t scsi.Transport, k *tape.DataKey) error {
	all, err := Capabilities(t)
	if err != nil {
		return fmt.Errorf("ask the drive how it encrypts: %w", err)
	}
	i := slices.IndexFunc(all, Algorithm.usable)
	if i < 0 {
		return fmt.Errorf("the drive does not encrypt with AES-256-GCM: %w", tape.ErrUnsupported)
	}
	if err := out(t, appendSet(nil, all[i].Index, k)); err != nil {
		return fmt.Errorf("tell the drive whether to encrypt: %w", err)
	}
	s, err := Current(t)
	if err != nil {
		return fmt.Errorf("ask the drive whether it encrypts: %w", err)
	}
	if k != nil && !s.On() || k == nil && !s.Off() {
		return fmt.Errorf("the drive was told whether to encrypt, and %s", s)
	}
	return nil
}

// Local gives drives the keys that this process has.
type Local struct{ Keys tape.Keys }

var _ tape.Encrypter = Local{}

// SetKey derives the key and gives it to the drive.
func (l Local) SetKey(_ context.Context, t scsi.Transport, k tape.KeyOf) error {
	key, err := l.Keys.DataKey(k)
	if err != nil {
		return err
	}
	return Set(t, key)
}
