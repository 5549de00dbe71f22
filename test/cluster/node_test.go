package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meterworker/meterworker/test/chaos/faultproxy"
)

// node is one nats-server of the cluster, whatever number of times it is started.
type node struct {
	*process

	t       testing.TB
	name    string
	addr    string // of clients
	route   string // of the other nodes
	monitor string
	store   string
	config  string
	log     *record
}

// nodes are the cluster. routes[i][j] stands between node i and the route address of j.
type nodes struct {
	all    []*node
	routes [][]*faultproxy.Proxy
}

const clusterSize = 3

// startNodes starts n servers; it does not wait for them, as nobody does who starts them and
// the workers with one command. One alone is no cluster.
func startNodes(t testing.TB, n int) *nodes {
	t.Helper()
	c := &nodes{}
	for i := range n {
		c.all = append(c.all, &node{
			t: t, name: fmt.Sprintf("n%d", i), addr: freeAddress(t), route: freeAddress(t), monitor: freeAddress(t),
			store: t.TempDir(), config: filepath.Join(t.TempDir(), "nats.conf"), log: &record{},
		})
	}
	for i, from := range c.all {
		var links []*faultproxy.Proxy
		for j, to := range c.all {
			if i == j {
				links = append(links, nil)
				continue
			}
			links = append(links, proxyTo(t, to.route))
		}
		c.routes = append(c.routes, links)
		from.configure(links)
	}
	for _, node := range c.all {
		node.start()
	}
	return c
}

func proxyTo(t testing.TB, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// configure writes the configuration. Clients are told of no other addresses, and routes go
// through proxies only, so that a node can be parted from clients or from its peers.
func (n *node) configure(links []*faultproxy.Proxy) {
	n.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %s\nlisten: %q\nhttp: %q\n", n.name, n.addr, n.monitor)
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  sync_interval: always\n  max_file_store: 4GB\n  max_memory_store: 256MB\n}\n", n.store)
	fmt.Fprint(&b, "lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n")
	if len(links) > 1 {
		fmt.Fprintf(&b, "cluster {\n  name: test\n  listen: %q\n  no_advertise: true\n  routes: [\n", n.route)
		for _, link := range links {
			if link != nil {
				fmt.Fprintf(&b, "    \"nats://%s\"\n", link.Addr())
			}
		}
		fmt.Fprint(&b, "  ]\n}\n")
	}
	if err := os.WriteFile(n.config, []byte(b.String()), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// start runs the server; it returns before it answers.
func (n *node) start() {
	n.t.Helper()
	n.process = launch(n.t, n.name, n.log, []string{"GOMAXPROCS=4"}, built(n.t, natsServer), "-c", n.config)
}

// healthy reports whether the server and everything that it keeps are up to date.
func (n *node) healthy() bool {
	if n.ended() {
		n.t.Fatalf("%s does not start: %s", n.name, n.log.end(2000))
	}
	status, _ := get("http://" + n.monitor + "/healthz")
	return status == http.StatusOK
}

// back starts the server again and waits until it has caught up.
func (n *node) back() {
	n.t.Helper()
	n.start()
	until(n.t, n.name+" to be back", n.healthy)
}

// lameDuck ends the server the way a rolling update does.
func (n *node) lameDuck() {
	n.t.Helper()
	n.signal(syscall.SIGUSR2)
	until(n.t, n.name+" to end", n.ended)
}

// metaLeader is the index of the meta group's leader.
func (c *nodes) metaLeader(t testing.TB) int {
	t.Helper()
	leader := -1
	until(t, "a meta leader", func() bool {
		for i, n := range c.all {
			if n.ended() {
				continue
			}
			var answer struct {
				Meta struct {
					Leader string `json:"leader"`
				} `json:"meta_cluster"`
			}
			_, body := get("http://" + n.monitor + "/jsz")
			if json.Unmarshal([]byte(body), &answer) == nil && answer.Meta.Leader == n.name {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// named is the index of a node.
func (c *nodes) named(name string) int {
	for i, n := range c.all {
		if n.name == name {
			return i
		}
	}
	return -1
}

// url is where clients find the cluster: all of it.
func (c *nodes) url() string {
	var all []string
	for _, n := range c.all {
		all = append(all, "nats://"+n.addr)
	}
	return strings.Join(all, ",")
}

// isolate parts a node from its peers; its clients stay.
func (c *nodes) isolate(i int) {
	for j := range c.all {
		if i != j {
			c.routes[i][j].Part(faultproxy.Swallow)
			c.routes[j][i].Part(faultproxy.Swallow)
		}
	}
}

func (c *nodes) heal(t testing.TB, i int) {
	t.Helper()
	for j := range c.all {
		if i == j {
			continue
		}
		for _, link := range []*faultproxy.Proxy{c.routes[i][j], c.routes[j][i]} {
			if err := link.Heal(); err != nil {
				t.Error(err)
			}
		}
	}
}

// web has a bound for everything that is asked over HTTP.
var web = http.Client{Timeout: 10 * time.Second}
