//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// fillSnapshots writes n finished snapshots, a hundred a group, into an empty
// repository: each with the index of a one-chunk image and a manifest, from
// the format's description. Their chunk is not there; nobody reads it.
func fillSnapshots(repo string, n int) error {
	const perGroup = 100
	index := oneChunkIndex()
	for i := range n {
		id := fmt.Sprint(1000 + i/perGroup)
		group := filepath.Join(repo, "vm", id)
		at := time.Unix(firstBackup+86400*int64(i%perGroup), 0).UTC()
		dir := filepath.Join(group, at.Format("2006-01-02T15:04:05Z"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if i%perGroup == 0 {
			if err := os.WriteFile(filepath.Join(group, "owner"), []byte("root@pam\n"), 0o644); err != nil {
				return err
			}
		}
		m, err := plainManifest(id, at.Unix(), index)
		if err != nil {
			return err
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(dir, "disk.img.fidx"), index, 0o644),
			os.WriteFile(filepath.Join(dir, "index.json.blob"), m, 0o644),
		); err != nil {
			return err
		}
	}
	return nil
}

const chunkSize = 4 * mib

func oneChunkIndex() []byte {
	digest := sha256.Sum256(make([]byte, chunkSize))
	magic := sha256.Sum256([]byte("Proxmox Backup fixed sized chunk index v1.0"))
	sum := sha256.Sum256(digest[:])
	b := make([]byte, 4096, 4096+len(digest))
	copy(b, magic[:8])
	copy(b[32:], sum[:])
	binary.LittleEndian.PutUint64(b[64:], chunkSize)
	binary.LittleEndian.PutUint64(b[72:], chunkSize)
	return append(b, digest[:]...)
}

// plainManifest is a manifest as an uncompressed blob.
func plainManifest(id string, at int64, index []byte) ([]byte, error) {
	doc, err := json.MarshalIndent(map[string]any{
		"backup-type": "vm", "backup-id": id, "backup-time": at,
		"files": []any{map[string]any{
			"filename": "disk.img.fidx", "crypt-mode": "none", "size": chunkSize, "csum": fmt.Sprintf("%x", index[32:64]),
		}},
		"signature": nil, "unprotected": map[string]any{},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	magic := sha256.Sum256([]byte("Proxmox Backup uncompressed blob v1.0"))
	b := binary.LittleEndian.AppendUint32(magic[:8:8], crc32.ChecksumIEEE(doc))
	return append(b, doc...), nil
}
