// Package bucket makes trouble for users of repositories in object storage: the real
// binary works on a real engine, which is killed and started again, loses its bucket,
// or has no room left, while the program is interrupted and killed. Either it carries
// on, or it ends with a sentence and an exit code that say why; and the next run works
// with nobody's help.
package bucket
