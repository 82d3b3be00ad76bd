package cli

import guestside "github.com/holdfast-backup/holdfast/internal/filerestore/vm/inside"

// Inside is this program as the /init of a restore machine; is says whether it is
// that one.
func Inside(args []string) (code int, is bool) {
	if !guestside.IsInit(args) {
		return 0, false
	}
	return guestside.Program(args), true
}
