package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind is the subject of a partition that a message is stored on.
type Kind string

// The kinds, as subject tokens.
const (
	OwnerKind  Kind = "owner"
	IntentKind Kind = "intent"
	DoneKind   Kind = "done"
)

// Stored is one message of the journal as it was read.
type Stored struct {
	Kind     Kind
	Sequence uint64 // in the journal
	Time     time.Time
	Data     []byte
}

// Appended is the server's answer to a write.
type Appended struct {
	Sequence  uint64
	Duplicate bool // stored by an earlier write with the same id: proves storage, not ownership
}

// ErrLost says that another worker owns the partition now. Nothing that was
// begun here may be begun again here.
var ErrLost = errors.New("partition is owned by another worker")

// ErrBroken says that the journal is not what it was (an old copy, or made anew):
// nothing may be begun until a person has declared what that means.
var ErrBroken = errors.New("the journal is not what it was")

// Store keeps the journal. Every error but ErrLost and ErrBroken means that the outcome is
// unknown and the same call is to be made again, with the same id and bytes.
type Store interface {
	// Mark appends an owner marker, unfenced: this is how ownership is taken.
	Mark(ctx context.Context, partition int, id string, data []byte) (sequence uint64, err error)

	// Append stores data if marker is still the last one, else ErrLost.
	Append(ctx context.Context, partition int, kind Kind, marker uint64, id string, data []byte) (Appended, error)

	// Read yields every message of the partition in order, up to and including
	// the marker. It returns only when the marker came by, or with an error.
	Read(ctx context.Context, partition int, marker uint64, each func(Stored) error) error

	// PurgeIntents deletes the partition's intents with sequences below the given one.
	PurgeIntents(ctx context.Context, partition int, below uint64) error
}

func unreadable(partition int, m Stored, err error) error {
	return fmt.Errorf("partition %d is not taken: journal message %d cannot be read (written by a newer version?): %w", partition, m.Sequence, err)
}
