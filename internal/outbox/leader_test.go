package outbox

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestWhoseWord: what a stream holds is believed of its leader only, and a loss only of one
// that most of its replicas follow.
func TestWhoseWord(t *testing.T) {
	replica := func(name string, active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Name: name, Current: true, Active: active}
	}
	gone := &jetstream.PeerInfo{Name: "gone", Offline: true, Active: time.Millisecond}
	for name, row := range map[string]struct {
		cluster        *jetstream.ClusterInfo
		leader, follow bool
	}{
		"a server alone":                      {nil, true, true},
		"one copy in a cluster":               {&jetstream.ClusterInfo{Leader: "a"}, true, true},
		"all follow":                          {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("b", time.Second), replica("c", heardWithin)}}, true, true},
		"one of two follows":                  {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("b", time.Second), gone}}, true, true},
		"parted from both":                    {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("b", 4*time.Second), replica("c", time.Minute)}}, true, false},
		"never heard from them":               {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("b", 0), replica("c", 0)}}, true, false},
		"one of two copies, which is no most": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{gone}}, true, false},
		"one of five servers follows":         {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("b", time.Second), gone, gone, gone}}, true, false},
		"an election":                         {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{replica("a", time.Second), replica("b", time.Second), replica("c", time.Second)}}, false, true},
		"another server's answer":             {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{replica("a", time.Second), replica("c", time.Second)}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: UsageStream}, Cluster: row.cluster}
			if err := fromLeader(info); (err == nil) != row.leader {
				t.Errorf("the leader's word: %v", err)
			}
			if err := stillLeads(info); (err == nil) != row.follow {
				t.Errorf("followed: %v", err)
			}
		})
	}
}
