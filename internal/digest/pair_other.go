//go:build !amd64 || purego

package digest

func of2(a, b, suffix []byte) (Digest, Digest) { return of1(a, suffix), of1(b, suffix) }
