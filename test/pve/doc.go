// Package pve runs the Perl plugin for Proxmox VE, and the real binary under it,
// through whole jobs and restores in the order that Proxmox VE has, with a failure
// at every place. Machines are real QEMUs, containers real user namespaces.
//
// Proxmox VE's own modules are stand-ins, in standins. With HOLDFAST_PVE_MODULES,
// directories joined by ":", the real ones stand before them:
//
//	HOLDFAST_PVE_MODULES=pve-storage/src:pve-common/src go test ./test/pve
package pve
