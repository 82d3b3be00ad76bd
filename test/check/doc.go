// Package check tests check.py, the program that checks a repository with no
// code of Holdfast's: only Python's standard library, zstd and openssl. It must
// accept what Proxmox Backup Server's format allows, name each fault once, and
// notice every damaged byte that the format protects.
//
// The script roundtrip in this directory runs it over a repository that the
// real binary has written.
package check
