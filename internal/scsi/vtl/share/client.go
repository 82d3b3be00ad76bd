package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	answerTime = 30 * time.Minute // a cartridge may be in a drive that rewinds
	maxAnswer  = 256 << 20        // of a library of 60,000 cartridges
)

// Open opens the library in a directory for people's work: itself, or through the
// process that serves it.
func Open(dir string) (Operator, error) {
	l, err := vtl.Open(dir, vtl.Options{})
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, vfs.ErrLocked) {
		return nil, err
	}
	path := filepath.Join(dir, operatorSocket)
	conn, derr := net.Dial("unix", path)
	if derr != nil {
		return nil, err // it is open there, and not served
	}
	_ = conn.Close()
	return &remote{path}, nil
}

// remote is a library that another process serves.
type remote struct{ path string }

func (r *remote) ask(q Request) ([]vtl.Info, error) {
	conn, err := net.Dial("unix", r.path)
	if err != nil {
		return nil, fmt.Errorf("the process that serves the tape library: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return nil, fmt.Errorf("the process that serves the tape library: %w", err)
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&a); err != nil {
		return nil, fmt.Errorf("the process that serves the tape library: %w", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Cartridges, nil
}

func (r *remote) AddCartridge(c vtl.Cartridge) error {
	_, err := r.ask(Request{Do: "add", New: &c})
	return err
}

func (r *remote) Cartridges() ([]vtl.Info, error) { return r.ask(Request{Do: "list"}) }

func (r *remote) Import(name string) error {
	_, err := r.ask(Request{Do: "import", Name: name})
	return err
}

func (r *remote) Export(name string) error {
	_, err := r.ask(Request{Do: "export", Name: name})
	return err
}

func (r *remote) Insert(drive int, name string) error {
	_, err := r.ask(Request{Do: "insert", Name: name, Drive: drive})
	return err
}

func (r *remote) Eject(drive int) error {
	_, err := r.ask(Request{Do: "eject", Drive: drive})
	return err
}

func (r *remote) Delete(name string) error {
	_, err := r.ask(Request{Do: "delete", Name: name})
	return err
}

// Close leaves the library to the process that serves it.
func (r *remote) Close() error { return nil }
