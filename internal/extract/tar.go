package extract

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Tar writes what src yields as a tar, in the form of POSIX 2001 with the
// records of GNU tar and star: SCHILY.xattr. for extended attributes and
// capabilities, SCHILY.acl.access and .default for ACLs. Names begin with "./".
//
// A tar has no place for sockets, attributes and quota projects, nor for an
// extended attribute with "=" in its name. In a [Rewriter] files of 1 MiB and more
// have holes for runs of zeros of 64 KiB and more. Hard links should come with
// the metadata of their files, see [Selection.Metadata]: some programs set it.
func Tar(ctx context.Context, src Source, w io.Writer, o StreamOptions) (Result, error) {
	s := &stream{ctx: ctx, src: src, o: o}
	out := tar.NewWriter(w)
	var holes *sparse
	if rw, ok := w.(Rewriter); ok {
		holes = &sparse{s: s, out: out, w: rw}
	}
	err := s.each(func(e *pxar.Entry) error {
		if e.Kind == pxar.End {
			return nil
		}
		h, err := s.tarHeader(e)
		if err != nil {
			return err
		}
		if holes != nil && e.Kind == pxar.File && e.Size >= sparseMin {
			return holes.file(h, e.Size)
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if e.Kind != pxar.File {
			return nil
		}
		return s.content(out, e.Size)
	})
	if err == nil {
		err = out.Close()
	}
	return s.res, err
}

func (s *stream) tarHeader(e *pxar.Entry) (*tar.Header, error) {
	m := s.metadata(e)
	h := &tar.Header{
		Name: "." + strings.TrimSuffix(s.path(), "/"), Format: tar.FormatPAX, PAXRecords: map[string]string{},
		Mode: int64(m.Mode & 0o7777), Uid: int(m.UID), Gid: int(m.GID), ModTime: m.Mtime.Time(),
	}
	switch e.Kind {
	case pxar.Directory:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case pxar.File:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case pxar.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	case pxar.Hardlink:
		h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.Target
	case pxar.FIFO:
		h.Typeflag = tar.TypeFifo
	case pxar.CharDevice, pxar.BlockDevice:
		if h.Typeflag = tar.TypeChar; e.Kind == pxar.BlockDevice {
			h.Typeflag = tar.TypeBlock
		}
		const most = 1<<21 - 1 // seven octal digits
		if e.Device.Major > most || e.Device.Minor > most {
			return nil, fmt.Errorf("device number %d:%d: tar %w", e.Device.Major, e.Device.Minor, ErrForm)
		}
		h.Devmajor, h.Devminor = int64(e.Device.Major), int64(e.Device.Minor)
	default:
		return nil, fmt.Errorf("tar %w", ErrForm)
	}
	if e.Kind == pxar.Hardlink {
		return h, nil // the file itself has them
	}
	s.tarRecords(h.PAXRecords, &m)
	return h, nil
}

// tarRecords adds the metadata that the header has no place for.
func (s *stream) tarRecords(records map[string]string, m *pxar.Metadata) {
	for _, x := range m.Xattrs {
		if !filemeta.Stored(x.Name) {
			continue // of the machine, or said in another way
		}
		if strings.Contains(x.Name, "=") {
			s.missed(filemeta.Xattrs, true, "tar")
			continue
		}
		records["SCHILY.xattr."+x.Name] = string(x.Value)
	}
	if m.FCaps != nil {
		records["SCHILY.xattr.security.capability"] = string(m.FCaps)
	}
	for key, text := range map[string]string{"access": filemeta.AccessText(m), "default": filemeta.DefaultText(m)} {
		if text != "" {
			records["SCHILY.acl."+key] = text
		}
	}
	s.missed(filemeta.Flags, m.Flags != 0, "tar")
	s.missed(filemeta.Project, m.ProjectID != 0, "tar")
}
