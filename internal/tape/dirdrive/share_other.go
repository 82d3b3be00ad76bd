//go:build !unix

package dirdrive

import "os"

// share does nothing: files have no groups here.
func share(*os.File) error { return nil }
