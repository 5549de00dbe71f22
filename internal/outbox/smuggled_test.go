package outbox

import (
	"bufio"
	"fmt"
	"net"
	"strings"
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

// headerBlocks are headers as no library of ours writes them. Where the client cannot
// decode them the message comes without headers, as it will whenever it comes again.
var headerBlocks = []string{
	"NATS/1.0 503\r\n\r\n",
	"NATS/1.0 409 Consumer Deleted\r\n\r\n",
	"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
	"NATS/1.0\r\n\r\n",
	"NATS/1.0\r\nno colon\r\n\r\n",
	"NATS/1.0\r\n: no name\r\n\r\n",
	"NATS/1.0\r\n\xff\xfe: \x00\x1b[2J\r\n\r\n",
	"NATS/1.0\r\nX: no end",
	"NATS/9.9\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\n",
	"\x00",
}

// A producer that speaks the protocol by hand may store any header block.
func TestHeadersThatNoLibraryWrites(t *testing.T) {
	for _, block := range headerBlocks {
		for _, body := range []string{"", "x"} {
			t.Run(fmt.Sprintf("%q %s", block, body), func(t *testing.T) {
				w := newWorld(t)
				s := w.open(t, Settings{Mode: "test", Partitions: 1, Replicas: 1, Manage: true, AckWait: usual.AckWait})
				publishByHand(t, w, block, body)
				w.publish(t, "usage.events.a.c", "after")
				p := partition(t, s, 0)
				eventually(t, "both wait, and since when", func() bool {
					b, err := p.Backlog(t.Context())
					return err == nil && b.Pending == 2 && !b.Oldest.IsZero()
				})
				for i, m := range fetch(t, p, 2) {
					if want := []string{body, "after"}[i]; string(m.Body()) != want {
						t.Errorf("message %d is %q, want %q", i+1, m.Body(), want)
					}
				}
			})
		}
	}
}

// publishByHand stores a message with that very header block.
func publishByHand(t *testing.T, w *world, block, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.server.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false,\"no_responders\":true}\r\nSUB answer 1\r\nHPUB usage.events.a.c answer %d %d\r\n%s%s\r\nPING\r\n",
		len(block), len(block)+len(body), block, body)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.Contains(lines.Text(), `"stream":"USAGE"`) {
			return // the PubAck
		}
		if strings.HasPrefix(lines.Text(), "-ERR") {
			t.Fatal(lines.Text())
		}
	}
	t.Fatal("the server has hung up")
}
