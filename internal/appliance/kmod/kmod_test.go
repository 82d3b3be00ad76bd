package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module makes the smallest ELF file with a .modinfo section.
func module(info ...string) []byte {
	names := "\x00.modinfo\x00.shstrtab\x00"
	text := strings.Join(info, "\x00") + "\x00"
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: uint64(64 + len(text) + len(names)), Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	var b bytes.Buffer
	for _, part := range []any{
		h, []byte(text), []byte(names),
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(text))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(text)), Size: uint64(len(names))},
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a buffer takes everything
	}
	return b.Bytes()
}

func tree(t *testing.T) *Tree {
	t.Helper()
	dir := t.TempDir()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(module("depends="))
	_ = w.Close()
	for name, b := range map[string][]byte{
		"kernel/fs/top.ko":      module("name=top", "depends=mid-dle,low", "softdep=pre: wish missing post: after"),
		"kernel/fs/mid-dle.ko":  module("depends=low,builtin"),
		"kernel/lib/low.ko.gz":  gz.Bytes(),
		"kernel/lib/wish.ko":    module("depends="),
		"kernel/lib/after.ko":   module("depends="),
		"kernel/lib/broken.ko":  module("depends=nowhere"),
		"kernel/lib/no.ko":      []byte("no module"),
		"modules.builtin":       []byte("kernel/lib/builtin.ko\n"),
		"kernel/lib/readme.txt": nil,
	} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestDependenciesComeFirstAndOnce(t *testing.T) {
	order, err := tree(t).Closure("top", "builtin", "low")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range order {
		got = append(got, m.Name)
	}
	if want := "wish low mid_dle top"; strings.Join(got, " ") != want {
		t.Fatalf("order %q, want %q", got, want)
	}
	if !bytes.HasPrefix(order[1].Data, []byte("\x7fELF")) {
		t.Error("a compressed module is not plain")
	}
}

func TestMissingModulesAreNamed(t *testing.T) {
	for name, want := range map[string]string{"ntfs3": "ntfs3", "broken": "nowhere"} {
		if _, err := tree(t).Closure(name); !errors.Is(err, ErrNoModule) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tree(t).Closure("no"); err == nil || errors.Is(err, ErrNoModule) {
		t.Errorf("bytes that are no module: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(module("depends=a,b", "softdep=pre: c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		needs, wishes, err := parse(b)
		if err == nil && len(needs)+len(wishes) > len(b) {
			t.Fatalf("%d names from %d bytes", len(needs)+len(wishes), len(b))
		}
	})
}
