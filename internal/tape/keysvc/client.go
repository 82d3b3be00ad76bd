package keysvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// patience is longer than the service takes at worst.
const patience = 3 * time.Minute

// Client has keys put into drives by the service.
type Client struct {
	Path string // of the socket; "": Socket
}

var _ tape.Encrypter = Client{}

// SetKey implements [tape.Encrypter] for drives with a node of their own.
func (c Client) SetKey(ctx context.Context, t scsi.Transport, k tape.KeyOf) error {
	return c.ask(ctx, t, setRequest(k))
}

func (c Client) ask(ctx context.Context, t scsi.Transport, r request) error {
	node, ok := t.(interface{ File() *os.File })
	if !ok {
		return fmt.Errorf("the key service takes drives by their nodes, and this one has none: %w", tape.ErrUnsupported)
	}
	path := c.Path
	if path == "" {
		path = Socket
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it took too long"))
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("reach the key service for tapes: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	line, err := exchange(conn.(*net.UnixConn), node.File(), r)
	if err != nil {
		return fmt.Errorf("%s: the key service for tapes: %w", path, errors.Join(err, context.Cause(ctx)))
	}
	if err := parseAnswer(line); err != nil {
		return fmt.Errorf("the key service for tapes: %w", err)
	}
	return nil
}

// readLine reads all up to the end, which is one line and not a long one.
func readLine(r io.Reader) ([]byte, error) {
	line, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err != nil {
		return nil, err
	}
	if len(line) > maxLine {
		return nil, errors.New("an answer without an end")
	}
	return line, nil
}
