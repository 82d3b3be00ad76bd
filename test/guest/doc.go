// Package guest tests what needs a kernel of its own: the appliance itself, and
// kernel features that a test must not try on the machine it runs on, or that this machine's
// kernel lacks. Package inside holds tests that run in the guest.
//
// Each test of this package boots one machine and does all it has to do in it.
package guest
