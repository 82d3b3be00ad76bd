package vfs

// The portable file system is built on Linux so that tests outside can hold it
// to the contract.

// Portable is for tests.
type Portable struct{ *portable }

// OpenPortable is for tests.
func OpenPortable(dir string) (Portable, error) {
	p, err := openPortable(dir)
	return Portable{p}, err
}
