// Package audit is the record of what people did by hand: who, when, why, and to which
// dead letters. It lives in the stream USAGE_AUDIT, on usage.audit.<action>.
//
// Invariants:
//
//   - No mutation without a record: the intent is stored, by a PubAck of that very
//     stream, before anything takes effect. What cannot be recorded is not done.
//   - The result follows in a record of its own. One record before and one after, because
//     neither alone is enough: only the first survives the death of the command, and only
//     the second knows what came of it. An intent without a result says that the command
//     died in between: each thing that it names may have been done or not.
//   - Mutations of many letters are recorded in parts of at most [PartSize]: each letter is
//     named, with what it was, before it is touched, however many there are.
//   - A record is written once: the same bytes under the same message id again where no
//     answer came.
//   - Nothing here expires, and no command changes or deletes a record.
package audit
