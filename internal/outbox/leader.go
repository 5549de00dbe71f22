package outbox

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// heardWithin is how recently a leader must have heard from its replicas, which answer
// its heartbeats each second: one that has lost them may have been replaced.
const heardWithin = 3 * time.Second

// fromLeader returns why an answer is not its leader's word on what a stream holds, nil
// where it is. While there is no leader any server of the stream answers, with what it has
// applied so far: less than what was acknowledged. So does one that is about to be made
// leader. A server that runs alone leads everything.
func fromLeader(info *jetstream.StreamInfo) error {
	c := info.Cluster
	if c == nil {
		return nil
	}
	if c.Leader == "" {
		return fmt.Errorf("stream %s has no leader at present", info.Config.Name)
	}
	for _, replica := range c.Replicas { // the leader names the others only
		if replica.Name == c.Leader {
			return fmt.Errorf("stream %s is led by %s, and another server has answered for it", info.Config.Name, c.Leader)
		}
	}
	return nil
}

// stillLeads returns why the leader that answered may have been replaced without its
// knowledge, nil where most servers of the stream have followed it just now.
func stillLeads(info *jetstream.StreamInfo) error {
	c := info.Cluster
	if c == nil {
		return nil
	}
	follow := 1 // itself
	for _, replica := range c.Replicas {
		if !replica.Offline && replica.Active > 0 && replica.Active <= heardWithin {
			follow++
		}
	}
	if 2*follow <= len(c.Replicas)+1 {
		return fmt.Errorf("stream %s: %s has not heard from most of its replicas for %s: it may not lead any more", info.Config.Name, c.Leader, heardWithin)
	}
	return nil
}
