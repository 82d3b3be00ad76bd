// Package initbin holds the program that is the restore machine's /init, for each kind of
// processor, if this program was built with it: with the tag initbin, and files
// init-ARCH.gz in this directory, which are package initprog. `make initbin` makes them,
// and `make build` and releases have them.
//
// Without, the whole program has to be /init. That works, and makes the machine
// larger and its start slower.
package initbin
