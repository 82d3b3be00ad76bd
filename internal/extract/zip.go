package extract

import (
	"archive/zip"
	"compress/flate"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Zip writes what src yields as a zip with Unix modes, owners (the field "ux" of
// Info-ZIP) and times. Names are those below the root, which has none itself.
//
// A zip has no place for devices, FIFOs, sockets and hard links, so the source
// should yield files in place of links, see [Selection.Follow]; nor for extended
// attributes, capabilities, ACLs, attributes and quota projects.
func Zip(ctx context.Context, src Source, w io.Writer, o StreamOptions) (Result, error) {
	s := &stream{ctx: ctx, src: src, o: o}
	out := zip.NewWriter(w)
	// The better levels take several times as long, for little. One is enough: files
	// come one after the other.
	deflate, err := flate.NewWriter(io.Discard, flate.BestSpeed)
	if err != nil {
		return Result{}, err
	}
	out.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		deflate.Reset(w)
		return deflate, nil
	})
	err = s.each(func(e *pxar.Entry) error {
		if e.Kind == pxar.End || len(src.Path()) == 0 {
			return nil
		}
		h, err := s.zipHeader(e)
		if err != nil {
			return err
		}
		f, err := out.CreateHeader(h)
		if err != nil {
			return err
		}
		switch e.Kind {
		case pxar.Symlink:
			_, err = io.WriteString(f, e.Target)
		case pxar.File:
			err = s.content(f, e.Size)
		}
		return err
	})
	if err == nil {
		err = out.Close()
	}
	return s.res, err
}

func (s *stream) zipHeader(e *pxar.Entry) (*zip.FileHeader, error) {
	m := s.metadata(e)
	h := &zip.FileHeader{Name: strings.Join(s.src.Path(), "/"), Method: zip.Store, Modified: zipTime(m.Mtime)}
	h.NonUTF8 = !utf8.ValidString(h.Name)
	mode := fs.FileMode(m.Mode & 0o777)
	for bit, is := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m.Mode&bit != 0 {
			mode |= is
		}
	}
	switch e.Kind {
	case pxar.Directory:
		h.Name += "/"
		mode |= fs.ModeDir
	case pxar.File:
		if e.Size > 0 {
			h.Method = zip.Deflate
		}
	case pxar.Symlink:
		mode |= fs.ModeSymlink
	default:
		return nil, fmt.Errorf("zip %w", ErrForm)
	}
	h.SetMode(mode)
	h.Extra = unixOwner(h.Extra, m.UID, m.GID)
	s.missed(filemeta.Xattrs, len(m.Xattrs) > 0, "zip")
	s.missed(filemeta.FCaps, m.FCaps != nil, "zip")
	s.missed(filemeta.ACLs, m.ACL != nil, "zip")
	s.missed(filemeta.Flags, m.Flags != 0, "zip")
	s.missed(filemeta.Project, m.ProjectID != 0, "zip")
	if sec := m.Mtime.Sec; sec != h.Modified.Unix() {
		s.missed(filemeta.Mtime, true, "zip")
	}
	return h, nil
}

// zipTime keeps what 32 bits of seconds can say.
func zipTime(t pxar.Time) time.Time {
	return time.Unix(min(max(t.Sec, 0), 1<<31-1), 0).UTC()
}

// unixOwner appends the extra field 0x7875: version 1, sizes and ids.
func unixOwner(b []byte, uid, gid uint32) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(le.AppendUint16(b, 0x7875), 11)
	b = le.AppendUint32(append(b, 1, 4), uid)
	return le.AppendUint32(append(b, 4), gid)
}
