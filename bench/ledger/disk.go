package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
	"github.com/meterworker/meterworker/internal/journal"
)

// sending is how long a request to Stripe takes.
const sending = 80 * time.Millisecond

// settling is how long intents are waited for to be purged: the writers look every 5 s.
const settling = 15 * time.Second

func (b *bench) disk(ctx context.Context) error {
	before, err := b.stored(ctx)
	if err != nil {
		return err
	}
	n, err := b.deliver(ctx)
	if err != nil {
		return err
	}
	busy, err := b.stored(ctx)
	if err != nil {
		return err
	}
	stage.Pause(ctx, settling)
	after, err := b.stored(ctx)
	if err != nil {
		return err
	}
	files, err := bytesBelow(filepath.Join(b.stage.Store(), "jetstream", "$G", "streams", journal.StreamName))
	if err != nil {
		return err
	}
	records := after.Msgs - before.Msgs
	_, _ = fmt.Fprintf(os.Stdout, "%d identifiers at %d/s: %.1f in a message; %.1f bytes each stored, %.1f in files; with the intents of the last seconds %.1f\n",
		n, b.rate, float64(n)/float64(records), float64(after.Bytes-before.Bytes)/float64(n), float64(files)/float64(n), float64(busy.Bytes-before.Bytes)/float64(n))
	return nil
}

// deliver begins identifiers at the rate, each on the next partition, and waits for the
// last one.
func (b *bench) deliver(ctx context.Context) (n int, err error) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	const beat = 5 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	began := time.Now()
	for n < b.rate*b.seconds {
		<-ticker.C
		for due := min(int(time.Since(began).Seconds()*float64(b.rate)), b.rate*b.seconds); n < due; n++ {
			id := n
			wait.Go(func() {
				if failed := b.one(ctx, id); failed != nil {
					mu.Lock()
					err = errors.Join(err, failed)
					mu.Unlock()
				}
			})
		}
	}
	wait.Wait()
	return n, err
}

// one is an identifier's way through the journal.
func (b *bench) one(ctx context.Context, n int) error {
	p := b.owned[n%partitions]
	e := journal.Entry{Sequence: uint64(n + 1), Key: uint64(n+1) * 0x9e3779b97f4a7c15, Fingerprint: uint32(n)}
	if _, err := p.Intend(ctx, e); err != nil {
		return err
	}
	stage.Pause(ctx, sending)
	e.State = journal.Delivered
	return p.Record(ctx, e)
}

func bytesBelow(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
