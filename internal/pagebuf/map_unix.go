//go:build unix

package pagebuf

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the usual huge page; where it differs, alignment to
// it does no harm.
const hugePage = 2 << 20

// allocate maps n bytes, a whole number of pages.
func allocate(n int) (b, mapped []byte, err error) {
	room := n
	if n >= hugePage {
		room += hugePage // untouched address space costs nothing
	}
	mapped, err = unix.Mmap(-1, 0, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	b = mapped[:n]
	if n >= hugePage {
		addr := uintptr(unsafe.Pointer(&mapped[0]))
		skip := int(-addr & (hugePage - 1))
		b = mapped[skip : skip+n]
		adviseHuge(b)
	}
	return b, mapped, nil
}

func release(mapped []byte) {
	if err := unix.Munmap(mapped); err != nil {
		panic("pagebuf: internal error: unmap: " + err.Error()) // only a wrong address can fail
	}
}
