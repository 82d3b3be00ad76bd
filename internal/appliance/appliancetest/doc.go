// Package appliancetest runs tests inside the appliance.
//
// [Start] boots a machine for one test of the host, with a program built from
// this module as its /init. [VM.TestBinary] compiles the tests of a package, runs them in
// the machine as root, and repeats their outcome as subtests on the host, one for each
// test and subtest that ran inside:
//
//	func TestInGuest(t *testing.T) {
//		vm := appliancetest.Start(t, appliancetest.Spec{Modules: []string{"nbd"}, Tools: []string{"nbdkit"}})
//		vm.TestBinary(t, appliancetest.Tests{Package: "github.com/…/internal/kernel/nbdattach"})
//	}
//
// Inside, HOLDFAST_GUEST is "1": tests that are too dangerous for a host may look
// at it. CI is passed on, so that tests that lack something fail inside as they do outside.
// A package's testdata is there too.
//
// Without QEMU or a kernel the test is skipped with the reason, and fails when CI
// is "true". test/packages sees to both.
package appliancetest
