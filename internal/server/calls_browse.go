package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// browseCalls are the calls that look into file archives.
func (s *Server) browseCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "GET", Path: at + "/catalog", Doc: "List a directory of the file archives of a snapshot, which must not be encrypted.",
			Guard: content(access.CallRestore), Params: snapParams(filePath, archiveName), Do: api.Each(s.catalog),
		},
		{
			Method: "GET", Path: at + "/pxar-file-download", Doc: "Download a file of a file archive, or a directory as zip or tar.",
			Guard: content(access.CallRestore), Params: snapParams(filePath, archiveName, asTar), Do: api.Stream(octets, s.pxarDownload).WithBody(),
		},
	}
}

var (
	filePath    = api.Parsed("filepath", "Path in base64, or / or root. Its first component is the archive, unless there is an archive-name.", "", 2*browse.MaxPath, decodePath)
	archiveName = api.Parsed("archive-name", "The archive in which the path is.", safeID, 255, names.ServerName).Optional()
	asTar       = api.Bool("tar", "Download a directory as tar, compressed with zstd, and not as zip.").Default(false)
)

// decodePath makes a clean path that begins with a slash.
func decodePath(s string) (string, error) {
	if s == "root" || s == "/" {
		return "/", nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("it is not base64")
	}
	if strings.ContainsRune(string(b), 0) {
		return "", errors.New("it holds a zero byte")
	}
	return browse.Clean("/", string(b)), nil
}

// place is what a request asks for: an archive, and a path in it. Without an
// archive it is the list of archives.
func place(r *api.Request) (name names.Archive, inside string, err error) {
	p := filePath.Of(r)
	if name, ok := archiveName.Given(r); ok {
		return name, p, nil
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	if first == "" {
		return "", "/", nil
	}
	name, err = names.ServerName(first)
	return name, "/" + rest, err
}

// plainParts finds a file archive that is not encrypted.
func plainParts(m *manifest.Manifest, name names.Archive) (filearchive.Parts, error) {
	parts, err := filearchive.Find(m, name.String())
	if err != nil {
		return parts, err
	}
	if f, ok := m.File(parts.Meta.String()); ok && f.CryptMode == manifest.ModeEncrypt {
		return parts, fmt.Errorf("cannot decode '%s' - is encrypted", name)
	}
	return parts, nil
}

func (s *Server) catalog(ctx context.Context, r *api.Request, yield func(items.CatalogEntry) error) error {
	return s.withSnapshot(r, func(snap repo.Snapshot) (err error) {
		name, inside, err := place(r)
		if err != nil {
			return err
		}
		if name == "" {
			return listArchives(snap.Manifest(), yield)
		}
		prefix := ""
		if _, ok := archiveName.Given(r); !ok {
			prefix = "/" + name.String()
		}
		tree, err := s.openTree(ctx, snap, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tree.Close()) }()
		for e, err := range tree.List(ctx, inside) {
			if err != nil {
				return err
			}
			if err := yield(catalogItem(prefix+browse.Join(inside, e.Name), &e)); err != nil {
				return err
			}
		}
		return nil
	})
}

func listArchives(m *manifest.Manifest, yield func(items.CatalogEntry) error) error {
	for _, p := range filearchive.All(m) {
		name := p.Meta.String()
		err := yield(items.CatalogEntry{Path: base64.StdEncoding.EncodeToString([]byte("/" + name)), Text: name, Type: "v"})
		if err != nil {
			return err
		}
	}
	return nil
}

// openTree opens the catalog for an archive that is in it, which is quicker, or
// the archive itself.
func (s *Server) openTree(ctx context.Context, snap repo.Snapshot, name names.Archive) (*browse.Tree, error) {
	parts, err := plainParts(snap.Manifest(), name)
	if err != nil {
		return nil, err
	}
	if !parts.Split() {
		t, err := browse.OpenCatalog(ctx, snap, nil, s.cache)
		if err == nil {
			below, err := t.Below(ctx, "/"+parts.Meta.String())
			if err == nil {
				return below, nil
			}
			err = errors.Join(err, t.Close())
			return nil, err
		}
		if !errors.Is(err, repo.ErrNotFound) {
			return nil, err
		}
	}
	return browse.OpenArchive(ctx, snap, parts, nil, s.cache)
}

func catalogItem(full string, e *browse.Entry) items.CatalogEntry {
	item := items.CatalogEntry{
		Path: base64.StdEncoding.EncodeToString([]byte(full)),
		Text: strings.ToValidUTF8(e.Name, "\uFFFD"), Type: string(browse.Letter(e.Kind)), Leaf: !e.IsDir(),
	}
	if e.Kind == pxar.File {
		size := int64(e.Size)
		item.Size = &size
		if e.HasMtime() {
			item.Mtime = &e.Mtime.Sec
		}
	}
	return item
}

func (s *Server) pxarDownload(w http.ResponseWriter, r *api.Request) error {
	return s.withSnapshot(r, func(snap repo.Snapshot) (err error) {
		name, inside, err := place(r)
		if err != nil {
			return err
		}
		if name == "" {
			return errors.New("the path names no archive")
		}
		parts, err := plainParts(snap.Manifest(), name)
		if err != nil {
			return err
		}
		ctx := r.HTTP.Context()
		a, err := filearchive.Open(ctx, snap, parts, nil, s.cache)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
		e, err := a.LookupPath(inside)
		if err != nil {
			return err
		}
		if e.Kind == pxar.Hardlink {
			if e, err = a.Resolve(e); err != nil {
				return err
			}
		}
		base := path.Base(inside)
		if base == "/" {
			base = parts.Name()
		}
		switch e.Kind {
		case pxar.File:
			return sendFile(w, a.Archive, e, base)
		case pxar.Directory:
			return sendDirectory(ctx, w, a.Archive, inside, base, asTar.Of(r))
		}
		return fmt.Errorf("cannot download %s: it is neither a file nor a directory", inside)
	})
}

func sendFile(w http.ResponseWriter, a *pxar.Archive, e *pxar.Entry, name string) error {
	content, err := a.Content(e)
	if err != nil {
		return err
	}
	head(w, name, content.Size())
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, content, make([]byte, 256<<10))
	return err
}

func sendDirectory(ctx context.Context, w http.ResponseWriter, a *pxar.Archive, inside, name string, tar bool) (err error) {
	src, err := extract.Walk(a, extract.Selection{Path: inside, Follow: !tar, Metadata: tar})
	if err != nil {
		return err
	}
	if !tar {
		head(w, name+".zip", -1)
		_, err = extract.Zip(ctx, src, w, extract.StreamOptions{})
		return err
	}
	head(w, name+".tar.zst", -1)
	z, err := newZstdWriter(w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	_, err = extract.Tar(ctx, src, z, extract.StreamOptions{})
	return err
}
