// Package guest is the inside of the appliance: what runs as /init of the small
// virtual machine.
//
// # Two processes
//
// [Main] is called by a static program that is the initramfs' /init. As process 1
// it mounts /proc, /sys, /dev, /run and /tmp, loads the modules that [ModuleList]
// names, brings up the loopback interface and starts itself once more as the agent.
// From then on process 1 only reaps: what the agent starts is waited for by the
// agent, and whoever loses its parent by process 1. When the agent ends, for
// whatever reason, the power goes off.
//
// # The agent
//
// It finds the virtio-serial port named [Port] by /sys/class/virtio-ports and
// serves the protocol of [wire] on it, and on each call through vsock if the machine has such a
// device ([VsockFile]). Commands run in a session of their own, so
// that a cancelled request kills all that it started. When memory is short, the kernel
// ends commands before the agent. Nothing in the guest waits for
// a network: there is none.
//
// # Errors
//
// What fails before the agent runs goes to the console, where the host finds it.
// A module that does not load is a warning in the hello message: the kernel may
// have it built in under another name, and whoever needs it will say so.
package guest

// The fixed places that host and guest agree on.
const (
	Init       = "/init"                 // the program of this package
	ModuleList = "/etc/holdfast-modules" // module files to load at boot, one a line, in order
	LaterList  = "/etc/holdfast-later"   // JSON: names of modules to the files to load for each
	// WatchdogFile has the time, as Go writes a duration, after which a guest that
	// nobody asks for anything turns its power off. It need not be there.
	WatchdogFile = "/etc/holdfast-watchdog"
	// VsockFile has what a caller from the host says first. If it is there the agent
	// takes calls on VsockPort too.
	VsockFile = "/etc/holdfast-vsock"
	VsockPort = 807
	Port      = "holdfast.0"             // name of the virtio-serial port
	Ready     = "holdfast: agent starts" // on the console: the kernel runs and this program too
)
