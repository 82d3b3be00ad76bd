//go:build !unix

package keystore

// Inherit implements [Disk]. A new file has the permissions of its directory
// here, as the old one had.
func (d *osDisk) Inherit(string, string) error { return nil }

// Share implements [Disk], for the same reason.
func (d *osDisk) Share(string) error { return nil }
