package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/inside"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm/treewire"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Driver looks into the images of a machine's snapshot.
type Driver struct {
	c       *Client
	mu      sync.Mutex
	notices []string
}

var _ filerestore.Driver = (*Driver)(nil)

// Driver makes the machine a driver.
func (c *Client) Driver() *Driver { return &Driver{c: c} }

// Notices are what the machine says of what it mounted.
func (d *Driver) Notices() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.notices
	d.notices = nil
	return all
}

func (d *Driver) notice(all ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notices = append(d.notices, all...)
}

// List lists what is at a path.
func (d *Driver) List(ctx context.Context, p filerestore.Path) (all []filerestore.Entry, err error) {
	err = d.items(ctx, "list", inside.CallFor(p), func(i inside.Item) error {
		e, err := entryOf(p, i)
		all = append(all, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// items makes a call whose answer is items.
func (d *Driver) items(ctx context.Context, op string, c inside.Call, item func(inside.Item) error) error {
	body, err := d.c.call(ctx, http.MethodPost, op, c)
	if err != nil {
		return err
	}
	defer body.Close()
	in := json.NewDecoder(io.LimitReader(body, MaxListing))
	for {
		var i inside.Item
		err := in.Decode(&i)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the restore machine's answer ends early")
		case err != nil:
			return err
		case i.End:
			return hostError(i.Error)
		case i.Notice != "":
			d.notice(i.Notice)
		default:
			if err := item(i); err != nil {
				return err
			}
		}
	}
}

// hostError is an error of the guest as the host knows it.
func hostError(e *inside.Error) error {
	if e == nil {
		return nil
	}
	text := strings.TrimSuffix(e.Text, ": "+fs.ErrNotExist.Error())
	switch e.Kind {
	case inside.Missing:
		return fmt.Errorf("%s: %w", text, fs.ErrNotExist)
	case inside.Locked:
		return fmt.Errorf("%w: %s", filerestore.ErrLocked, e.Text)
	case inside.Unsupported:
		layer, what, _ := strings.Cut(strings.TrimSuffix(e.Text, " is not supported by the direct reader"), ": ")
		return fsread.Unsupported(layer, "%s", what)
	case inside.BadPath:
		return fmt.Errorf("%w: %s", filerestore.ErrPath, strings.TrimPrefix(e.Text, filerestore.ErrPath.Error()+": "))
	}
	return errors.New(e.Text)
}

// types are those that a listing may have.
const types = "dflhbcpsv"

// entryOf checks an entry of a stranger.
func entryOf(p filerestore.Path, i inside.Item) (filerestore.Entry, error) {
	name := string(i.Name)
	e := filerestore.Entry{Path: p, Type: filerestore.Type(i.Type), Size: i.Size, Mtime: i.Mtime, Note: i.Note}
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || !strings.ContainsRune(types, rune(i.Type)) {
		return e, fmt.Errorf("%w: an entry %q of type %q", treewire.ErrFormat, name, i.Type)
	}
	if name != "" {
		e.Path = p.Join(name)
	}
	return e, nil
}

// Open opens what a path names.
func (d *Driver) Open(ctx context.Context, p filerestore.Path, o filerestore.OpenOptions) (filerestore.Part, error) {
	c := inside.CallFor(p)
	c.Follow, c.Metadata = o.Follow, o.Metadata
	if o.Name != "" {
		c.Name = []byte(o.Name)
	}
	single, err := d.single(ctx, p)
	if err != nil {
		return nil, err
	}
	body, err := d.c.call(ctx, http.MethodPost, "tree", c)
	if err != nil {
		return nil, err
	}
	return &part{Reader: treewire.NewReader(body, o.Problem), body: body, single: single, d: d}, nil
}

// single finds out whether a path is no directory: a listing of it is one entry, the path
// itself. It is an error here, and not in the stream, if there is no such path.
func (d *Driver) single(ctx context.Context, p filerestore.Path) (bool, error) {
	known := errors.New("known")
	single := false
	err := d.items(ctx, "list", inside.CallFor(p), func(i inside.Item) error {
		single = len(i.Name) == 0
		if i.Type == byte(filerestore.Virtual) {
			return fmt.Errorf("%w: %s is a list of volumes, choose one of them", filerestore.ErrPath, p)
		}
		return known // the rest does not matter
	})
	if errors.Is(err, known) {
		err = nil
	}
	return single, err
}

// part is a stream of the machine as a source.
type part struct {
	*treewire.Reader
	body   io.Closer
	single bool
	d      *Driver
	told   int
}

// IsFile reports whether the part is a single entry that is no directory.
func (p *part) IsFile() bool { return p.single }

// Next returns the next entry.
func (p *part) Next() (*pxar.Entry, error) {
	e, err := p.Reader.Next()
	if all := p.Notices(); len(all) > p.told {
		p.d.notice(all[p.told:]...)
		p.told = len(all)
	}
	return e, err
}

// Close ends the stream, and what is made of it in the machine.
func (p *part) Close() error { return p.body.Close() }
