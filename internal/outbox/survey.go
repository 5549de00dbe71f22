package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/meterworker/meterworker/internal/deadletter"
)

// Survey is one look at everything that NATS tells of the outbox, for people's commands. It
// asks no worker, creates and changes nothing, and needs the operator's permissions only.
type Survey struct {
	Mode       string
	Partitions int
	Stored     uint64 // last sequence of USAGE: what was published so far
	Sizes      []Size // of the streams that exist
	Waiting    Waiting
	Letters    map[deadletter.Reason]int
	Orders     Orders
	Findings   []Finding // streams that are not what they were
	Members    Look
	Silent     time.Duration // how long no member has shown itself, by the server's clock
	ServerTime time.Time     // of the USAGE stream's leader, at about the time of the look
}

// Waiting is the backlog over all partitions.
type Waiting struct {
	Ready   int       // not handed out to a worker yet
	Unacked int       // handed out, or handed back with a delay, and not settled
	Oldest  time.Time // lower bound of when the oldest of them was stored; zero: nothing waits
	Missing []int     // partitions without a consumer: nobody has served them yet
}

// Size is how large a stream is.
type Size struct {
	Stream   string
	Messages uint64
	Bytes    uint64
	MaxBytes int64     // 0 or less: what the account or the server leaves
	First    time.Time // when the oldest message was stored; zero: it is empty
	Replicas int
}

// surveysAtOnce bounds the partitions that are asked for beside each other.
const surveysAtOnce = 8

// Survey looks at everything. The streams are those of [Inspect] or [Open].
func (s *Streams) Survey(ctx context.Context) (Survey, error) {
	v := Survey{Mode: s.settings.Mode, Partitions: s.settings.Partitions, Letters: map[deadletter.Reason]int{}}
	for _, step := range []func(context.Context, *Survey) error{s.surveySizes, s.surveyLetters, s.surveyOrders, s.surveyMembers} {
		if err := step(ctx, &v); err != nil {
			return v, err
		}
	}
	var err error
	if v.Waiting, err = s.Waiting(ctx); err != nil {
		return v, err
	}
	v.Findings, err = s.Findings(ctx)
	return v, err
}

// Sizes looks at the streams and leaves out those that do not exist: USAGE_REPORTS is created
// with the first webhook secret.
func (s *Streams) Sizes(ctx context.Context) ([]Size, error) {
	var v Survey
	err := s.surveySizes(ctx, &v)
	return v.Sizes, err
}

func (s *Streams) surveySizes(ctx context.Context, v *Survey) error {
	for _, name := range []string{UsageStream, JournalStream, DLQStream, AuditStream, ReportsStream} {
		stream, err := s.lookUp(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", name, err)
		}
		info := stream.CachedInfo()
		v.Sizes = append(v.Sizes, sizeOf(info))
		if name == UsageStream {
			v.Stored, v.ServerTime = info.State.LastSeq, info.TimeStamp
		}
	}
	return nil
}

func sizeOf(info *jetstream.StreamInfo) Size {
	size := Size{
		Stream: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		MaxBytes: info.Config.MaxBytes, Replicas: info.Config.Replicas,
	}
	if size.Messages > 0 {
		size.First = info.State.FirstTime
	}
	return size
}

func (s *Streams) surveyLetters(ctx context.Context, v *Survey) error {
	dlq, err := s.lookUp(ctx, DLQStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // named by the findings
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", DLQStream, err)
	}
	v.Letters, err = countLetters(ctx, dlq)
	return err
}

func (s *Streams) surveyOrders(ctx context.Context, v *Survey) error {
	kv, err := s.Durable(ctx)
	if _, refused := errors.AsType[*Refused](err); refused {
		return nil // named by the findings
	}
	if err != nil {
		return err
	}
	v.Orders, err = ReadOrders(ctx, kv)
	return err
}

// surveyMembers reads the document first: it is then not younger than the clock that it is
// compared with, which is that of the bucket's own leader.
func (s *Streams) surveyMembers(ctx context.Context, v *Survey) error {
	look, beaten, err := lookAtMembers(ctx, s.js)
	if err != nil {
		return err
	}
	v.Members = look
	if beaten.IsZero() {
		return nil
	}
	bucket, err := s.lookUp(ctx, "KV_"+ControlBucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("key-value bucket %s: %w", ControlBucket, err)
	}
	v.Silent = max(bucket.CachedInfo().TimeStamp.Sub(beaten), 0)
	return nil
}

// GoneAfter is how long after the last beat of all of them the members are taken for gone:
// while one lives it takes the others out of the document after as long.
const GoneAfter = missedBeats * BeatEvery

// Live are the members that are there: none where the document was left alone.
func (v Survey) Live() Look {
	if v.Silent > GoneAfter {
		return Look{}
	}
	return v.Members
}

// Unowned are the partitions that no live member says to own.
func (v Survey) Unowned() []int {
	owned := map[int]bool{}
	for _, m := range v.Live() {
		for _, p := range m.Owns {
			owned[p] = true
		}
	}
	unowned := []int{}
	for p := range v.Partitions {
		if !owned[p] {
			unowned = append(unowned, p)
		}
	}
	return unowned
}

// Waiting is the backlog of all partitions, whoever owns them.
func (s *Streams) Waiting(ctx context.Context) (Waiting, error) {
	var (
		mu    sync.Mutex
		all   Waiting
		first error
		group sync.WaitGroup
	)
	places := make(chan struct{}, surveysAtOnce)
	for p := range s.settings.Partitions {
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			one, err := s.waiting(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
			}
			all.add(one)
		})
	}
	group.Wait()
	slices.Sort(all.Missing)
	return all, first
}

func (w *Waiting) add(other Waiting) {
	w.Ready += other.Ready
	w.Unacked += other.Unacked
	w.Missing = append(w.Missing, other.Missing...)
	if !other.Oldest.IsZero() && (w.Oldest.IsZero() || other.Oldest.Before(w.Oldest)) {
		w.Oldest = other.Oldest
	}
}

func (s *Streams) waiting(ctx context.Context, partition int) (Waiting, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := s.usage.Consumer(ctx, s.consumerConfig(partition).Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return Waiting{Missing: []int{partition}}, nil
	}
	if err != nil {
		return Waiting{}, fmt.Errorf("backlog of partition %d: %w", partition, err)
	}
	info := consumer.CachedInfo()
	w := Waiting{Ready: int(info.NumPending), Unacked: info.NumAckPending}
	if w.Ready+w.Unacked == 0 {
		return w, nil
	}
	first, err := s.first(ctx, lookup{From: info.AckFloor.Stream + 1, Subject: partitionSubjects(partition)})
	if err != nil {
		return w, fmt.Errorf("oldest message of partition %d: %w", partition, err)
	}
	w.Oldest = first.Time
	return w, nil
}
