// Package ui is how results and progress look: output formats, tables, sizes,
// durations, progress, colours. It knows terminals and nothing about backups.
//
// # Channels
//
// Results go to one writer (standard output), in the format that the user
// asked for: aligned text for people, one JSON value for programs. Progress
// and messages go to another one (standard error). Bars and colours appear
// only on terminals; elsewhere a job is a line at its start, one at its end
// and at most one a minute between.
//
// # Foreign text
//
// Names, notes and comments come out of repositories that others wrote. What
// is printed for people passes [Clean], so that no byte of it reaches the
// terminal as a control sequence.
package ui
