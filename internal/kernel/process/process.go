// Package process tells processes of this machine apart, also those that got the
// number of one that has ended: by its number together with the time when it
// began, in clock ticks since boot, field 22 of /proc/PID/stat (proc(5)).
//
// Elsewhere than on Linux nothing can be said: errors.ErrUnsupported.
package process
