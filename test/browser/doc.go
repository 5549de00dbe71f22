// Package browser drives the console with a real browser: the built binary as its own
// process, with a simulated Stripe and a nats-server, looked at by Debian's chromium. There
// is no code in it but tests.
//
// Whatever a test does, the page must not complain: a message on the console of the
// browser, a violation of the content security policy or a dialog fails the test.
package browser
