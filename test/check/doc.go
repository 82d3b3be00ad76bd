// Package check tests check.py, the program that checks a repository with no
// code of Holdfast's: only Python's standard library, zstd and openssl. It must
// accept what Proxmox Backup Server's format allows, name each fault once, and
// notice every damaged byte that the format protects.
//
// treecmp.py compares two trees, mktree.py makes nasty ones, pxar.py and catalog.py read file archives; they share that rule.
//
// The script roundtrip in this directory runs it over a repository that the
// real binary has written.
package check
