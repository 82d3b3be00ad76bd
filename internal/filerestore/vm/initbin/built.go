//go:build initbin

package initbin

import _ "embed" // the program

//go:embed init
var program []byte

// Program is a static program for Linux, or nil.
func Program() []byte { return program }
