// Package config is what is set for tapes: drives and changers, pools, and jobs
// that back up to tape by themselves. The files are those of PBS.
//
//	tape.cfg        sections lto, virtual and changer
//	media-pool.cfg  sections pool
//	tape-job.cfg    sections backup
//
// What a section can say is a list of properties: [Properties]. Drives and changers
// share the names of tape.cfg; so no drive is called as a changer is.
//
// # Errors
//
// ErrNotFound and ErrExists are wrapped with the kind and the name, ErrInUse when
// something else names what is to be removed. confdir.ErrChanged and ErrBusy are
// about the file, sectionconfig.ErrFormat about its form. What is wrong with a
// section is told with its key.
//
// # Source
//
// proxmox-backup: pbs-config/src/{drive,media_pool,tape_job}.rs; proxmox-rs:
// pbs-api-types/src/tape/, src/jobs.rs.
package config
