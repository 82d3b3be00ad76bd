// Package torture kills the real binary: several processes back up, prune,
// forget, collect, verify and restore on one real directory, and kill -9 ends
// many of them at random moments. What was acknowledged must restore bit for
// bit, the program that checks a repository with none of Holdfast's code must
// find nothing but what an interrupted backup may leave, and the next backup,
// collection and verification must work with nobody's help.
//
//	go test ./test/torture -run Kill -kill-time 10m -kill-seed 1 -v
//
// The seed decides what is done and when it is killed; the rest is up to the
// machine, so that a run cannot be repeated exactly.
//
// It also floods a server that runs with tiny requests, and looks at its memory and
// what else it takes:
//
//	go test ./test/torture -run Flood -requests 1000000 -v
package torture
