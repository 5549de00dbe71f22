package outbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// checker collects what is wrong with one stream or consumer.
type checker struct {
	name     string
	problems []string
}

func (c *checker) refuse(bad bool, field string, value any, remedy string) {
	if bad {
		c.problems = append(c.problems, fmt.Sprintf("%s: %s is %v: %s", c.name, field, value, remedy))
	}
}

// check compares a stream with what we need. It refuses what can lose or double
// usage and leaves the rest to its operator.
func check(info *jetstream.StreamInfo, want jetstream.StreamConfig) []string {
	c := &checker{name: "stream " + want.Name}
	have := info.Config
	c.refuse(have.Retention != want.Retention, "retention", have.Retention, "recreate the stream with limits retention; it cannot be changed")
	c.refuse(have.Storage != want.Storage, "storage", have.Storage, "recreate the stream on file storage")
	c.refuse(have.Discard != want.Discard, "discard", have.Discard, "set it to new: discarding old messages loses usage")
	c.refuse(have.PersistMode != jetstream.DefaultPersistMode, "persist_mode", "async", "recreate the stream with the default mode: asynchronous persistence loses acknowledged usage")
	c.refuse(have.AllowRollup, "allow_rollup_hdrs", true, "set it to false: a producer's roll-up header would purge usage")
	c.refuse(have.AllowMsgTTL, "allow_msg_ttl", true, "recreate the stream without it: a producer's TTL header would expire usage")
	c.refuse(have.Sealed, "sealed", true, "recreate the stream: a sealed one takes no message")
	c.refuse(have.Duplicates < want.Duplicates, "duplicate_window", have.Duplicates,
		fmt.Sprintf("set it to at least %s: what is published again after a lost answer would be stored twice", want.Duplicates))
	c.refuse(have.NoAck, "no_ack", true, "set it to false: producers must know what is stored")
	c.refuse(have.Replicas < want.Replicas, "num_replicas", have.Replicas,
		fmt.Sprintf("raise it to %d, or set METERWORKER_STREAM_REPLICAS=%d", want.Replicas, have.Replicas))
	c.refuse(have.MaxMsgsPerSubject > 0 && !have.DiscardNewPerSubject, "max_msgs_per_subject", have.MaxMsgsPerSubject, "set it to unlimited: older messages of the subject would be dropped")
	c.refuse(have.Mirror != nil || len(have.Sources) > 0, "mirror or sources", "set", "recreate the stream without them")
	c.age(have, want)
	c.subjects(have, want)
	c.metadata(have, want)
	return c.problems
}

func (c *checker) age(have, want jetstream.StreamConfig) {
	least := want.MaxAge
	switch want.Name {
	case UsageStream:
		least = leastUsageAge
	case DLQStream:
		c.refuse(have.MaxAge != 0, "max_age", have.MaxAge, "set it to 0: dead letters wait for a person, however long")
		return
	case AuditStream:
		c.refuse(have.MaxAge != 0, "max_age", have.MaxAge, "set it to 0: what people did by hand stays on record")
		return
	}
	c.refuse(have.MaxAge != 0 && have.MaxAge < least, "max_age", have.MaxAge, fmt.Sprintf("set it to 0 or at least %s", least.Round(time.Hour)))
}

func (c *checker) subjects(have, want jetstream.StreamConfig) {
	a, b := slices.Sorted(slices.Values(have.Subjects)), slices.Sorted(slices.Values(want.Subjects))
	c.refuse(!slices.Equal(a, b), "subjects", a, fmt.Sprintf("set them to %v", b))
	if want.SubjectTransform == nil {
		c.refuse(have.SubjectTransform != nil, "subject_transform", "set", "remove it: what is written would not be found again")
		return
	}
	if have.SubjectTransform == nil {
		c.refuse(true, "subject_transform", "missing", "recreate the stream with "+want.SubjectTransform.Destination)
		return
	}
	c.refuse(*have.SubjectTransform != *want.SubjectTransform, "subject_transform", have.SubjectTransform.Destination,
		"it must be "+want.SubjectTransform.Destination+"; the number of partitions is fixed at creation (METERWORKER_PARTITIONS)")
}

func (c *checker) metadata(have, want jetstream.StreamConfig) {
	differs := func(key string) bool {
		return have.Metadata[key] != "" && want.Metadata[key] != "" && have.Metadata[key] != want.Metadata[key]
	}
	value := func(key string) string { return have.Metadata[key] }
	c.refuse(differs(metaMode), "metadata mode", value(metaMode),
		fmt.Sprintf("this worker's key is for %s mode; give it the other key, or another NATS account", want.Metadata[metaMode]))
	c.refuse(differs(metaPartitions), "metadata partitions", value(metaPartitions),
		"set METERWORKER_PARTITIONS to it; the number is fixed at creation")
	c.refuse(differs(metaFormat), "metadata format", value(metaFormat), "run the version of meterworker that wrote it")
	c.refuse(differs(metaEpoch), "metadata epoch", value(metaEpoch),
		fmt.Sprintf("it belongs to another %s stream (epoch %s): a stream was restored or recreated alone; restore both from the same moment, or recreate both", UsageStream, want.Metadata[metaEpoch]))
}

// unstamped refuses, where nothing may be changed, what [Streams.stamp] would have
// put right.
func unstamped(info *jetstream.StreamInfo, want jetstream.StreamConfig) []string {
	c := &checker{name: "stream " + want.Name}
	c.refuse(info.Config.Metadata[metaMode] == "", "metadata mode", "missing",
		fmt.Sprintf("set it to %s: nothing else keeps test usage and live usage apart", want.Metadata[metaMode]))
	c.refuse(unbounded(info.Config, want), "max_msg_size", info.Config.MaxMsgSize,
		fmt.Sprintf("set it to at most %d: a larger message could not become a dead letter", want.MaxMsgSize))
	return c.problems
}

func checkConsumer(have, want jetstream.ConsumerConfig) []string {
	c := &checker{name: "consumer " + want.Durable}
	c.refuse(have.AckPolicy != want.AckPolicy, "ack_policy", have.AckPolicy, "recreate the consumer with explicit acks")
	c.refuse(have.MaxDeliver > 0, "max_deliver", have.MaxDeliver, "set it to -1: a message at its limit is kept but invisible for ever")
	c.refuse(len(have.BackOff) > 0, "backoff", have.BackOff, "remove it: it overrides ack_wait")
	c.refuse(have.FilterSubject != want.FilterSubject, "filter_subject", have.FilterSubject, "it must be "+want.FilterSubject)
	c.refuse(have.DeliverPolicy != want.DeliverPolicy, "deliver_policy", have.DeliverPolicy, "recreate the consumer to deliver all")
	c.refuse(have.MemoryStorage, "mem_storage", true, "recreate the consumer on file storage")
	c.refuse(have.HeadersOnly, "headers_only", true, "set it to false: usage without its body would be dead-lettered")
	c.refuse(have.InactiveThreshold > 0, "inactive_threshold", have.InactiveThreshold, "set it to 0: the consumer, and what is acked, would be forgotten while no worker runs")
	return c.problems
}
