//go:build !unix

package pagebuf

func allocate(n int) (b, mapped []byte, err error) { return make([]byte, n), nil, nil }

func release([]byte) {}
