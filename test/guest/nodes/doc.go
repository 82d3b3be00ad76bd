// Package nodes holds the tests of SCSI nodes that package guest runs in the
// appliance: emulated units become real devices of its kernel, and this
// program's transport and others' programs use them. Outside of the appliance
// they do nothing.
package nodes
