package tapefile

import (
	"crypto/sha256"
	"testing"
)

func TestMagicsAreDerivedFromTheirNames(t *testing.T) {
	all := append(append([]contentKind{
		{name: "Proxmox Backup Content Header v1.0", magic: headerMagic},
		{name: "Proxmox Tape Block Header v1.0", magic: blockMagic},
		{name: "Proxmox Backup Chunk Archive Entry v1.0", magic: chunkMagic},
	}, contents...), outdated...)
	for _, k := range all {
		if sum := sha256.Sum256([]byte(k.name)); [8]byte(sum[:]) != k.magic {
			t.Errorf("%s: magic %x, want %x", k.name, k.magic, sum[:8])
		}
	}
}

func TestConstantsAreInTheOrderOfTheirTable(t *testing.T) {
	for c, name := range map[Content]string{
		MediumLabel:        "Proxmox Backup Tape Label v1.0",
		MediaSetLabel:      "Proxmox Backup MediaSet Label v1.0",
		Chunks:             "Proxmox Backup Chunk Archive v1.1",
		RootSnapshot:       "Proxmox Backup Snapshot Archive v1.1",
		NamespacedSnapshot: "Proxmox Backup Snapshot Archive v1.2",
		RootCatalog:        "Proxmox Backup Catalog Archive v1.0",
		NamespacedCatalog:  "Proxmox Backup Catalog Archive v1.1",
	} {
		if got := contents[c-1].name; got != name {
			t.Errorf("content %d is %q, want %q", c, got, name)
		}
	}
}
