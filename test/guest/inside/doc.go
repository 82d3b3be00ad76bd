// Package inside holds the tests that package guest runs in the appliance: they
// attach devices, mount and kill, as root on a kernel of their own. Outside of it they do nothing.
//
// They expect the disks that package guest makes: /dev/vda with a GPT and /dev/vdb with an
// MBR, each partition a file system with the file "hello" in it.
package inside
