package tape

// Alerts are TapeAlert flags (SSC-4, annex A): bit n-1 is flag n, 1 to 64.
type Alerts uint64

// Has reports whether flag n is set.
func (a Alerts) Has(n int) bool { return n >= 1 && n <= 64 && a&(1<<(n-1)) != 0 }
