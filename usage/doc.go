// Package usage is the message that producers publish and the worker bills: one
// usage event of one customer on one meter.
//
// A service in Go builds an [Event] with [New] and hands it to a [Publisher]. A
// service in another language publishes the JSON that [Schema] describes on the
// subject that [AsyncAPI] describes. The worker reads either with [Parse].
//
// Invariants:
//
//   - An Event that exists is valid: nobody downstream validates again. Every
//     other message is a [Refusal] with one reason of a closed list.
//   - Event name, identifier, customer, value and timestamp are fixed once the
//     message is stored, and come out the same on every delivery of it.
//   - [Event.Key] says which event it is, [Event.Fingerprint] what it says. Both
//     are kept for weeks in journals, so how they are computed never changes.
//   - Subject and body agree. A producer that may publish on one meter or
//     customer cannot write another.
//
// A message meets the checks in this order, and the first that fails names the
// reason: size, JSON and its shape (an unreadable timestamp included), event
// name, identifier, payload, customer, value, time window, subject.
package usage
