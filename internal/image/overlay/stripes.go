package overlay

import "sync"

const (
	stripeBlocks = 16 // 64 KiB of the image share a lock
	stripeCount  = 256
)

// stripes are locks over ranges of blocks: shared for who overwrites blocks
// that are in the file, exclusive for who brings them there or takes them
// away. Stripes far apart share a lock too. They are taken in the order of the
// locks, so nobody waits in a circle.
type stripes [stripeCount]sync.RWMutex

// each calls do for the locks of [first, last], in order.
func (s *stripes) each(first, last int64, do func(*sync.RWMutex)) {
	a, b := first/stripeBlocks, last/stripeBlocks
	if b-a >= stripeCount-1 {
		for i := range s {
			do(&s[i])
		}
		return
	}
	low, high := a%stripeCount, b%stripeCount
	if low <= high {
		for i := low; i <= high; i++ {
			do(&s[i])
		}
		return
	}
	for i := range high + 1 {
		do(&s[i])
	}
	for i := low; i < stripeCount; i++ {
		do(&s[i])
	}
}

func (s *stripes) lock(first, last int64)    { s.each(first, last, (*sync.RWMutex).Lock) }
func (s *stripes) unlock(first, last int64)  { s.each(first, last, (*sync.RWMutex).Unlock) }
func (s *stripes) rLock(first, last int64)   { s.each(first, last, (*sync.RWMutex).RLock) }
func (s *stripes) rUnlock(first, last int64) { s.each(first, last, (*sync.RWMutex).RUnlock) }
