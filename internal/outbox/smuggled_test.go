package outbox

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// Headers with which a server speaks to a client. A producer may set them too.
var serverWords = []nats.Header{
	{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
	{"Status": {"400"}, "Description": {"Bad Request"}},
	{"Status": {"404"}, "Description": {"No Messages"}},
	{"Status": {"408"}, "Description": {"Request Timeout"}},
	{"Status": {"409"}, "Description": {"Consumer Deleted"}},
	{"Status": {"409"}, "Description": {"Batch Completed"}},
	{"Status": {"409"}, "Description": {"Leadership Change"}},
	{"Status": {"423"}, "Description": {"Nats-Pin-Id mismatch"}},
	{"Status": {"503"}},
	{"Status": {"\x1b[2J"}},
	{"Nats-Pin-Id": {"another"}},
	{"Nats-Pending-Messages": {"many"}, "Nats-Pending-Bytes": {"-1"}},
}

// What a producer stored is a message, whatever its headers say, also without a body:
// it is fetched once, and so are the messages around it.
func TestMessagesThatLookLikeTheServers(t *testing.T) {
	for _, header := range serverWords {
		for _, body := range []string{"", "x"} {
			t.Run(header.Get("Status")+header.Get("Description")+body, func(t *testing.T) {
				w := newWorld(t)
				s := w.open(t, Settings{Mode: "test", Partitions: 1, Replicas: 1, Manage: true, AckWait: usual.AckWait})
				w.publish(t, "usage.events.a.c", "before")
				if _, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "usage.events.a.c", Header: header, Data: []byte(body)}); err != nil {
					t.Fatal(err)
				}
				w.publish(t, "usage.events.a.c", "after")
				for i, m := range fetch(t, partition(t, s, 0), 3) {
					if want := []string{"before", body, "after"}[i]; string(m.Body()) != want {
						t.Errorf("message %d is %q, want %q", i+1, m.Body(), want)
					}
					if err := m.Ack(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
