// Package initbin holds the program that is the restore machine's /init, if this
// program was built with it: with the tag initbin, and the file "init" in this directory,
// which is package initprog for the same kind of processor. `make build` does both.
//
// Without, the whole program has to be /init. That works, and makes the machine
// larger and its start slower.
package initbin
