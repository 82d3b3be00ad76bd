// Package cli is the command line: one file a command, from flags to options
// to a function with no command-line library in it.
//
// # Contract
//
// Verbs, flags and JSON field names are those of proxmox-backup-client where
// it has them. Results go to standard output in the format of --output-format,
// everything else to standard error. With a JSON format standard output holds
// one JSON value and nothing else, and a failure is one JSON object on
// standard error: {"error", "hint", "exit-code"}.
//
// # Exit codes
//
//	0    done
//	1    failed
//	2    wrong usage
//	3    done, but something was skipped or could not be read
//	4    damage found
//	10   no such repository, namespace, group, snapshot or archive
//	11   locked by another operation
//	12   key, password or owner refused
//	130  interrupted
//
// # Errors
//
// An error that reaches the user is one sentence that says what and where. If
// there is something to do about it a hint follows on a line of its own.
package cli
