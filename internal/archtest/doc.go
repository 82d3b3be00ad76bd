// Package archtest holds the architecture: which room may import which, who
// may use which library, and that every package says what it is.
//
// The rules are tables in rules_test.go. They are read over the source of
// every build tag and platform, so that a file for another system cannot break
// them unseen. Tests may import upwards; only the product's files are bound.
//
// A new room needs one line in the table: that is the moment to decide where
// it stands.
package archtest
