package permissions

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// configuration is what is tested.
const configuration = "../../deploy/nats/server.conf"

// users of the configuration.
var users = []string{"producer", "producer-api-calls", "worker", "provisioner", "operator"}

// owner is a user that only the tests have: it may do everything.
const owner = "owner"

func password(user string) string { return "p" + strings.ReplaceAll(user, "-", "") + "0123" }

// server is a NATS server with the configuration as it is shipped, but for a port and a folder of
// the test's, and the owner.
type server struct {
	t     *testing.T
	store string
	port  int
	log   *record

	connections map[string]jetstream.JetStream // by user

	*natsserver.Server // the running one
}

func startServer(t *testing.T) *server {
	t.Helper()
	for _, user := range users {
		variable := "METERWORKER_NATS_" + strings.ToUpper(strings.ReplaceAll(user, "-", "_")) + "_PASSWORD"
		t.Setenv(variable, password(user))
	}
	s := &server{t: t, store: t.TempDir(), port: natsserver.RANDOM_PORT, log: &record{}, connections: map[string]jetstream.JetStream{}}
	s.run()
	t.Cleanup(s.stop)
	return s
}

// options reads the configuration.
func (s *server) options() *natsserver.Options {
	s.t.Helper()
	options, err := natsserver.ProcessConfigFile(configuration)
	if err != nil {
		s.t.Fatal(err)
	}
	if options.Host != "127.0.0.1" || !options.SyncAlways || len(options.Users) != len(users) {
		s.t.Fatalf("%s: host %s, sync_interval always: %v, %d users", configuration, options.Host, options.SyncAlways, len(options.Users))
	}
	options.Users = append(options.Users, &natsserver.User{Username: owner, Password: password(owner)})
	options.Port, options.HTTPPort, options.StoreDir = s.port, 0, s.store
	options.NoSigs, options.NoLog = true, true
	return options
}

func (s *server) run() {
	s.t.Helper()
	options := s.options()
	started, err := natsserver.NewServer(options)
	if err != nil {
		s.t.Fatal(err)
	}
	started.SetLogger(s.log, true, true)
	started.Start()
	if !started.ReadyForConnections(patience) {
		s.t.Fatal("nats-server does not start")
	}
	s.Server, s.port = started, options.Port
}

func (s *server) stop() {
	s.log.note(s.Server)
	s.Shutdown()
	s.WaitForShutdown()
}

// reload changes the users' permissions under open connections, as SIGHUP does.
func (s *server) reload(change func(*natsserver.Options)) {
	s.t.Helper()
	options := s.options()
	change(options)
	if err := s.ReloadOptions(options); err != nil {
		s.t.Fatal(err)
	}
}

func permissionsOf(o *natsserver.Options, user string) *natsserver.Permissions {
	i := slices.IndexFunc(o.Users, func(u *natsserver.User) bool { return u.Username == user })
	return o.Users[i].Permissions
}

// without takes permissions to publish away from a user.
func without(user string, subjects ...string) func(*natsserver.Options) {
	return func(o *natsserver.Options) {
		publish := permissionsOf(o, user).Publish
		publish.Allow = slices.DeleteFunc(slices.Clone(publish.Allow), func(s string) bool { return slices.Contains(subjects, s) })
	}
}

// url is where a user finds the server.
func (s *server) url(user string) string {
	return fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", user, password(user), s.port)
}

// dial connects as a user, with its inbox.
func (s *server) dial(user string, options ...nats.Option) *nats.Conn {
	s.t.Helper()
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // the default one prints
	options = append([]nats.Option{quiet, nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}, options...)
	if user != owner {
		options = append([]nats.Option{nats.CustomInboxPrefix(inbox(user))}, options...)
	}
	conn, err := nats.Connect(s.url(user), options...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	return conn
}

// connect returns the JetStream of a user's connection, which comes back by itself after a
// restart.
func (s *server) connect(user string) jetstream.JetStream {
	s.t.Helper()
	if s.connections[user] == nil {
		s.connections[user] = jetStream(s.t, s.dial(user))
	}
	return s.connections[user]
}

// stream looks a stream up as the owner.
func (s *server) stream(name string) jetstream.Stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := s.connect(owner).Stream(ctx, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}

// dir is where the server keeps a stream.
func (s *server) dir(stream string) string {
	return filepath.Join(s.store, "jetstream", "$G", "streams", stream)
}

// record is the server's log: what it denied, and what each connection published.
type record struct {
	mu        sync.Mutex
	denied    []string
	logins    int                 // that were refused
	published map[string][]string // subjects, by connection, since the server started
	used      map[string][]string // subjects, by user, of servers that have ended
}

var publishes = regexp.MustCompile(`cid:(\d+) - .*<<- \[H?PUB (\S+)`)

func (r *record) line(format string, values ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, values...)
	switch {
	case strings.Contains(text, "Violation"):
		r.denied = append(r.denied, text)
	case strings.Contains(text, "authentication error"):
		r.logins++
	}
}

func (r *record) Noticef(format string, values ...any) { r.line(format, values...) }
func (r *record) Warnf(format string, values ...any)   { r.line(format, values...) }
func (r *record) Fatalf(format string, values ...any)  { r.line(format, values...) }
func (r *record) Errorf(format string, values ...any)  { r.line(format, values...) }
func (r *record) Debugf(format string, values ...any)  { r.line(format, values...) }

// Tracef hears of every protocol line.
func (r *record) Tracef(format string, values ...any) {
	match := publishes.FindStringSubmatch(fmt.Sprintf(format, values...))
	if match == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.published == nil {
		r.published = map[string][]string{}
	}
	r.published[match[1]] = append(r.published[match[1]], match[2])
}

// note finds out whose the connections were.
func (r *record) note(s *natsserver.Server) {
	connections, err := s.Connz(&natsserver.ConnzOptions{Username: true, State: natsserver.ConnAll, Limit: 100_000})
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == nil {
		r.used = map[string][]string{}
	}
	for _, c := range connections.Conns {
		r.used[c.AuthorizedUser] = append(r.used[c.AuthorizedUser], r.published[fmt.Sprint(c.Cid)]...)
	}
	r.published = nil
}

// denials are what the server has denied so far.
func (r *record) denials() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.denied)
}

// refusedLogins is how often somebody was not let in.
func (s *server) refusedLogins() int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.logins
}

// uses are the subjects that a user has published to; note first.
func (r *record) uses(user string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.used[user])
}
