// Package pve runs the Perl plugin for Proxmox VE, and the real binary under it,
// through whole jobs and restores in the order that Proxmox VE has, with a failure
// at every place. Machines are real QEMUs, containers real user namespaces.
//
// Proxmox VE's own modules are stand-ins, in standins. HOLDFAST_PVE_MODULES names
// directories, joined by ":", that come before them: pve-storage/src and
// pve-common/src, with what these need (PVE::Cluster and others that only a host
// has). The real PVE::Storage finds the plugin where packages put it, below
// /usr/share/perl5.
package pve
