package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// mostAncestors bounds the way back.
const mostAncestors = 32

// Ancestor is one message of USAGE that came before a letter: the one that died, or an
// earlier one of which that is a replay.
type Ancestor struct {
	Sequence   uint64
	StoredAt   time.Time
	Identifier string // that the replay was given; "" for what a producer published
	ReplayOf   uint64 // the letter of which it is a replay; 0: a producer published it
	Edited     bool   // its body is not that of the message before it
}

// Lineage goes back from the letter to what the producer published, the newest first, as
// far as USAGE still holds it.
func (l *Letters) Lineage(ctx context.Context, letter Letter) ([]Ancestor, error) {
	var ancestors []Ancestor
	body := sha256.Sum256(letter.Body)
	for sequence := letter.Sequence; sequence > 0 && len(ancestors) < mostAncestors; {
		m, err := l.ancestor(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return ancestors, nil
		}
		if err != nil {
			return ancestors, fmt.Errorf("read message %d: %w", sequence, err)
		}
		sum := sha256.Sum256(m.Data)
		if sum != body {
			if len(ancestors) == 0 { // another message: numbers were counted on, or begun anew
				return nil, nil
			}
			ancestors[len(ancestors)-1].Edited = true
		}
		body = sum
		a, before := l.ancestorOf(m)
		ancestors = append(ancestors, a)
		if before >= sequence {
			break
		}
		sequence = before
	}
	return ancestors, nil
}

func (l *Letters) ancestor(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.usage.GetMsg(ctx, sequence) // Lineage says what it was
}

// ancestorOf reads one message, and the sequence of the message before it: 0 where it has
// none, or where nobody knows it.
func (l *Letters) ancestorOf(m *jetstream.RawStreamMsg) (a Ancestor, before uint64) {
	a = Ancestor{Sequence: m.Sequence, StoredAt: m.Time}
	if tokens := strings.Split(m.Subject, "."); len(tokens) < 4 || tokens[3] != "replay" {
		return a, 0 // headers of anyone else mean nothing
	}
	a.Identifier = m.Header.Get(deadletter.HeaderIdentifier)
	id, messageID, _ := strings.Cut(m.Header.Get(deadletter.HeaderReplayOf), " ")
	a.ReplayOf, _ = strconv.ParseUint(id, 10, 64) // 0 where it cannot be read
	rest, found := strings.CutPrefix(messageID, "dlq-"+l.epoch+"-")
	if number, _, ok := strings.Cut(rest, "-"); found && ok {
		before, _ = strconv.ParseUint(number, 10, 64)
	}
	return a, before
}
