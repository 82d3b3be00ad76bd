package digest

import "crypto/sha256"

// Of2 returns the SHA-256 of a and of b. Where the processor has SHA
// instructions it computes both at once, in little more time than one takes;
// the gain is in the length they have in common.
func Of2(a, b []byte) (Digest, Digest) { return of2(a, b, nil) }

// Of2Suffix returns the SHA-256 of a followed by suffix, and of b followed by
// suffix, like [Of2]. The suffix has at most 32 bytes.
func Of2Suffix(a, b, suffix []byte) (Digest, Digest) {
	if len(suffix) > Size {
		panic("digest: suffix too long")
	}
	return of2(a, b, suffix)
}

// of1 leaves the work to the standard library.
func of1(b, suffix []byte) (d Digest) {
	h := sha256.New()
	h.Write(b)
	h.Write(suffix)
	h.Sum(d[:0])
	return d
}
