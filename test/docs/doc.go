// Package docs holds the documentation to what the program does. There is
// nothing in it but tests; go test ./test/docs -update writes the pages' parts
// anew from what the program prints now.
//
// # What is checked
//
//	```console            commands behind "$ ", run one after the other in an
//	                      empty directory, one shell a page; what they print
//	                      must be what the page shows, with that directory
//	                      called /srv
//	<!-- run: COMMAND --> run at that place and not shown
//	```sh                 not run, as it needs devices, other hosts or
//	                      privilege; every holdfast command line in it must be
//	                      one that the program accepts
//	<!-- inspect: FILE --> the block behind it is the dump of that file of
//	                      internal/format/inspect/testdata
//	[text](page#heading)  the page and the heading exist
//
// docs/reference/cli.md is made from the command line's own help.
//
// # What may differ
//
// Numbers, sizes, times, digests and fingerprints are compared by their form:
// they change with the machine, the clock and the compression library. Words,
// lines and their order count.
package docs
