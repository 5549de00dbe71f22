package replay

import (
	"context"
	"errors"
)

// Discard deletes one letter: its usage is never billed. Like [Letters.Replay] it is not
// cut short when ctx ends.
func (l *Letters) Discard(ctx context.Context, id uint64) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	letter, err := l.Get(ctx, id)
	if err == nil {
		err = l.remove(ctx, id)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return Result{ID: id, Outcome: Missing, Detail: ErrNotFound.Error()}
	case err != nil:
		return Result{ID: id, Outcome: Failed, Detail: "delete: " + err.Error()}
	}
	return Result{ID: id, Outcome: Discarded, Identifier: letter.Identifier}
}
