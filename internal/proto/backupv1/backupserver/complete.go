package backupserver

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// complete returns the manifest if everything that it lists is there.
func (b *Session) complete() (*manifest.Manifest, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.conf.Request.Benchmark:
		return nil, errors.New("a benchmark is not kept")
	case b.spoilt != nil:
		return nil, fmt.Errorf("the backup cannot be finished: %w", b.spoilt)
	case len(b.writers) > 0:
		return nil, errors.New("found open index writer - unable to finish backup")
	case b.manifest == nil:
		return nil, errors.New("the manifest index.json.blob was not uploaded")
	}
	m, err := parseManifest(b.manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if s := b.ses.Snapshot(); !m.Describes(s) {
		return nil, fmt.Errorf("manifest: it belongs to %s/%s/%s, the backup is %s", m.BackupType, m.BackupID, names.FormatTime(m.BackupTime), s)
	}
	if len(m.Files) == 0 {
		return nil, errors.New("backup does not contain valid files (file count == 0)")
	}
	for _, f := range m.Files {
		switch has, ok := b.files[f.Archive()]; {
		case !ok:
			return nil, fmt.Errorf("manifest: it lists %s, which was not uploaded", f.Filename)
		case has.size != f.Size:
			return nil, fmt.Errorf("manifest: %s has %d bytes, it says %d", f.Filename, has.size, f.Size)
		case has.sum != f.Csum:
			return nil, fmt.Errorf("manifest: %s has checksum %s, it says %s", f.Filename, has.sum, f.Csum)
		}
	}
	return m, nil
}

func parseManifest(raw []byte) (*manifest.Manifest, error) {
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	text, err := dec.Append(nil, raw, manifest.MaxSize)
	if err != nil {
		return nil, err
	}
	return manifest.Parse(text)
}
