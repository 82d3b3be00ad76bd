// Package fsreadtest compares what a reader says of a file system with what the
// kernel says of the same bytes, and looks into whatever a hostile image holds.
package fsreadtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

var kinds = map[fsread.Kind]string{
	fsread.Regular: "file", fsread.Directory: "directory", fsread.Symlink: "symlink", fsread.FIFO: "fifo",
	fsread.Socket: "socket", fsread.CharDevice: "char device", fsread.BlockDevice: "block device",
}

// listed is one line of a listing, with the fields of treecmp.py.
type listed struct {
	Path    text        `json:"path"`
	Type    string      `json:"type"`
	UID     uint32      `json:"uid"`
	GID     uint32      `json:"gid"`
	MTime   json.Number `json:"mtime"` // nanoseconds
	Mode    *uint32     `json:"mode,omitempty"`
	Target  *text       `json:"target,omitempty"`
	Device  *[2]uint32  `json:"device,omitempty"`
	Size    *int64      `json:"size,omitempty"`
	Link    *text       `json:"link,omitempty"`
	Content string      `json:"content,omitempty"`
	Xattrs  xattrs      `json:"xattrs,omitzero"` // nil: not compared
}

// text is any bytes as Python writes them: what is no UTF-8 as lone surrogates.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('"')
	for s := string(t); s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\udc%02x`, s[0])
		case r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case r < 0x20 || r > 0x7e || r == '"' || r == '\\':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteByte(s[0])
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.Bytes(), nil
}

// xattrs is an object whose names are any bytes.
type xattrs []fsread.Xattr

func (x xattrs) IsZero() bool { return x == nil }

func (x xattrs) MarshalJSON() ([]byte, error) {
	b := bytes.NewBufferString("{")
	for i, a := range x {
		name, err := text(a.Name).MarshalJSON()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%s:%q", name, hex.EncodeToString(a.Value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// List writes a listing of all files as treecmp.py --list writes it: depth first,
// siblings by the bytes of their names.
func List(f fsread.FS, w io.Writer) error {
	l := lister{fs: f, out: bufio.NewWriter(w), first: map[fsread.ID]text{}}
	if err := l.walk(f.Root(), ""); err != nil {
		return err
	}
	return l.out.Flush()
}

type lister struct {
	fs    fsread.FS
	out   *bufio.Writer
	first map[fsread.ID]text
}

func (l *lister) walk(id fsread.ID, path string) error {
	st, err := l.fs.Stat(id)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if err := l.line(st, path); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if st.Kind != fsread.Directory {
		return nil
	}
	var all []fsread.Entry
	if err := l.fs.ReadDir(id, func(e fsread.Entry) error { all = append(all, e); return nil }); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	slices.SortFunc(all, func(a, b fsread.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range all {
		if err := l.walk(e.ID, strings.TrimPrefix(path+"/"+e.Name, "/")); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) line(st fsread.Stat, path string) error {
	out := listed{Path: text(path), Type: kinds[st.Kind], UID: st.UID, GID: st.GID, MTime: nanoseconds(st.Modified)}
	if st.Kind != fsread.Symlink {
		out.Mode = &st.Mode
	}
	switch st.Kind {
	case fsread.Symlink:
		target, err := l.fs.Readlink(st.ID)
		if err != nil {
			return err
		}
		out.Target = new(text(target))
	case fsread.CharDevice, fsread.BlockDevice:
		out.Device = &[2]uint32{st.Major, st.Minor}
	case fsread.Regular:
		if err := l.content(st, &out); err != nil {
			return err
		}
	}
	if st.Kind == fsread.Regular || st.Kind == fsread.Directory {
		attrs, err := l.fs.Xattrs(st.ID)
		if err != nil {
			return err
		}
		out.Xattrs = append(xattrs{}, attrs...)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = l.out.Write(append(b, '\n'))
	return err
}

func (l *lister) content(st fsread.Stat, out *listed) error {
	out.Size = &st.Size
	if st.Links > 1 {
		if _, ok := l.first[st.ID]; !ok {
			l.first[st.ID] = out.Path
		}
		out.Link = new(l.first[st.ID])
	}
	img, err := l.fs.Open(st.ID)
	if err != nil {
		return err
	}
	if img.Size() != st.Size {
		return fmt.Errorf("stat says %d bytes, the content has %d", st.Size, img.Size())
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(img, 0, img.Size())); err != nil {
		return err
	}
	out.Content = hex.EncodeToString(h.Sum(nil))
	return nil
}

// nanoseconds since the epoch, of any year.
func nanoseconds(t time.Time) json.Number {
	sec, nsec := t.Unix(), int64(t.Nanosecond())
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, nsec-1e9
	}
	switch {
	case sec == 0:
		return json.Number(fmt.Sprint(nsec))
	case nsec < 0:
		nsec = -nsec
	}
	return json.Number(strings.TrimLeft(fmt.Sprintf("%d%09d", sec, nsec), "+"))
}
