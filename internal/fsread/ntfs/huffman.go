package ntfs

// bits is a stream of bits in units of 16, highest bit first, as XPRESS and LZX have
// it. At least 16 bits are at hand, zeros behind the end; bytes between the units are
// taken from where the next unit would be.
type bits struct {
	src  []byte
	at   int
	buf  uint32
	have int // bits in buf
}

func newBits(src []byte) *bits {
	b := &bits{src: src}
	b.fill()
	return b
}

// fill takes units until more than 16 bits are there: what was taken decides where bytes
// between the units are.
func (b *bits) fill() {
	for b.have <= 16 {
		b.buf |= uint32(b.word()) << (16 - b.have)
		b.have += 16
	}
}

func (b *bits) word() uint16 {
	lo := b.byte()
	return uint16(lo) | uint16(b.byte())<<8
}

func (b *bits) byte() byte {
	b.at++
	if b.at > len(b.src) {
		return 0
	}
	return b.src[b.at-1]
}

// over reports that more was taken than there is, and than is taken ahead.
func (b *bits) over() bool { return b.at > len(b.src)+4 }

// take takes up to 16 bits.
func (b *bits) take(n int) int {
	v := b.buf >> 16 >> (16 - n)
	b.drop(n)
	return int(v)
}

func (b *bits) drop(n int) {
	b.buf <<= n
	b.have -= n
	if b.have < 16 {
		b.buf |= uint32(b.word()) << (16 - b.have)
		b.have += 16
	}
}

// maxCode is how many bits a code has at most.
const maxCode = 16

// code is a canonical prefix code: codes of one length follow each other in the order of
// their symbols, and longer ones shorter ones.
type code struct {
	first   [maxCode + 1]int // code of the first symbol of a length
	index   [maxCode + 1]int // of that symbol in symbols
	count   [maxCode + 1]int
	symbols []uint16
	fast    [1 << fastBits]uint16 // symbol and length of what begins with these bits; 0: look further
}

const fastBits = 9

// set makes it the code of symbols with these lengths, 0 for none; not ok: there are
// more than the lengths allow.
func (c *code) set(lengths []byte) (ok bool) {
	c.count = [maxCode + 1]int{}
	for _, n := range lengths {
		c.count[n]++
	}
	c.count[0] = 0
	next, used := 0, 0
	var place [maxCode + 1]int
	for n := 1; n <= maxCode; n++ {
		next <<= 1
		c.first[n], c.index[n], place[n] = next, used, used
		next += c.count[n]
		used += c.count[n]
		if next > 1<<n {
			return false
		}
	}
	if cap(c.symbols) < used {
		c.symbols = make([]uint16, len(lengths))
	}
	c.symbols = c.symbols[:used]
	for s, n := range lengths {
		if n > 0 {
			c.symbols[place[n]] = uint16(s)
			place[n]++
		}
	}
	c.quick()
	return true
}

// quick fills the table for codes that are short.
func (c *code) quick() {
	clear(c.fast[:])
	for n := 1; n <= fastBits; n++ {
		for i := range c.count[n] {
			v := c.symbols[c.index[n]+i]<<4 | uint16(n)
			from := (c.first[n] + i) << (fastBits - n)
			for k := range 1 << (fastBits - n) {
				c.fast[from+k] = v
			}
		}
	}
}

// next takes the symbol that comes; not ok: no symbol has this code.
func (c *code) next(b *bits) (symbol int, ok bool) {
	if v := c.fast[b.buf>>(32-fastBits)]; v != 0 {
		b.drop(int(v & 15))
		return int(v >> 4), true
	}
	for n := 1; n <= maxCode; n++ {
		v := int(b.buf >> (32 - n))
		if v-c.first[n] < c.count[n] && v >= c.first[n] {
			b.drop(n)
			return int(c.symbols[c.index[n]+v-c.first[n]]), true
		}
	}
	return 0, false
}
