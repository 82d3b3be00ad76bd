// Package measure runs programs, once or until they are stopped, says what they took,
// and describes the machine that they ran on: what the benchmarks have in common.
package measure
