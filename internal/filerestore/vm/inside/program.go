package inside

import "github.com/holdfast-backup/holdfast/internal/appliance/guest"

// IsInit reports whether a program that was started with these arguments is to be
// [Program]: as the machine's /init, or by it.
func IsInit(args []string) bool { return len(args) > 0 && args[0] == guest.Init }

// Program is all that the restore machine's /init is: process 1 and its agent, and what
// answers a question.
func Program(args []string) int {
	if len(args) > 1 && args[1] == Command {
		return Main(args[2:])
	}
	return guest.Main()
}
