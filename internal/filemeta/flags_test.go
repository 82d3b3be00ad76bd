package filemeta

import "testing"

func TestEachAttributeHasOneFlagAndComesBack(t *testing.T) {
	for _, table := range [][]flag{inodeFlags[:], fatFlags[:]} {
		seen, kernel := uint64(0), uint32(0)
		for _, f := range table {
			if seen&f.archive != 0 || kernel&f.kernel != 0 {
				t.Errorf("%+v is there twice", f)
			}
			seen |= f.archive
			kernel |= f.kernel
			if a := toArchive(table, f.kernel); a != f.archive {
				t.Errorf("%#x becomes %#x", f.kernel, a)
			}
			if k := toKernel(table, f.archive); k != f.kernel {
				t.Errorf("%#x becomes %#x", f.archive, k)
			}
		}
		if toArchive(table, ^uint32(0)) != seen || toKernel(table, ^uint64(0)) != kernel {
			t.Error("unknown flags mean something")
		}
	}
}
