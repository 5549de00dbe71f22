package replay

import (
	"strconv"
	"strings"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// RejectedLater is the message that a letter's message id is about, where Stripe rejected that
// one after taking it; ok is false for any other letter, and of another outbox.
func RejectedLater(messageID, epoch string) (sequence uint64, ok bool) {
	rest, ours := strings.CutPrefix(messageID, "dlq-"+epoch+"-")
	number, reason, _ := strings.Cut(rest, "-")
	sequence, err := strconv.ParseUint(number, 10, 64)
	return sequence, ours && err == nil && deadletter.Reason(reason) == deadletter.RejectedLater
}
