// Package bucketsim simulates several hosts that share one repository in an object
// store: clients back up, servers restore, list, prune, move, verify and collect
// garbage, all at the same time, under virtual time, with the store of
// objstore/simstore between them. Requests overtake each other, get lost, arrive late or
// twice, answers get lost, listings lag; processes are killed between any two
// requests, pause for longer than their leases, and their clocks are wrong. One seed is
// one schedule.
//
//	go test ./test/bucketsim -args -schedules 100000 -schedule-seed 1
//
// # What must hold
//
// While it runs: what is read is what was backed up, and nothing that is listed is
// said to be damaged or missing (I5). No operation misses an object, unless it is told that its
// session was ended, or that what it works on was removed. After each schedule:
//
//   - I1: every backup that was acknowledged, and that nobody removed, is listed.
//   - I2: every snapshot that is listed restores bit for bit, acknowledged or not. What was
//     acknowledged to be removed is not listed.
//   - I3: the next backup of each group, verification and collection work, with
//     nobody's help.
//   - I4: when everything has ended and garbage was collected for long enough, all that
//     is needed is there. And nothing else: for each object the log says what it is for.
package bucketsim
