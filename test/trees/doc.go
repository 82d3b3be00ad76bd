// Package trees backs up, restores and mounts directories with the real binary,
// on ext4, XFS, btrfs and tmpfs, and lets programs judge that share no code with
// it: test/check/treecmp.py and pxar.py, and GNU tar.
//
// The trees are made by test/check/mktree.py: every kind of file and attribute,
// names of any bytes, paths longer than PATH_MAX. File systems lie in loop
// images, so most of this needs root; the rest runs without.
//
//	go test ./test/trees -holdfast bin/holdfast
package trees
