package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/meterworker/meterworker/internal/natstest"
)

func TestDenial(t *testing.T) {
	for _, tt := range []struct {
		text   string
		needs  role
		want   string
		family string
	}{
		{
			`Permissions Violation for Publish to "usage.replay.api_calls.cus_1"`, roleOperator,
			`NATS user "u" may not publish to "usage.replay.api_calls.cus_1": give it the operator's permissions (deploy/nats/permissions.conf)`, "publish usage.replay.>",
		},
		{
			`Permissions Violation for Subscription to "_INBOX.abc.*"`, roleOperator,
			`NATS user "u" may not subscribe to "_INBOX.abc.*": set NATS_INBOX_PREFIX to the prefix that it may subscribe to (_INBOX_operator in deploy/nats/permissions.conf)`, "subscribe _INBOX.>",
		},
		{
			`Permissions Violation for Subscription to "_INBOX.abc.*" (sid "1")`, roleWorker,
			`NATS user "u" may not subscribe to "_INBOX.abc.*": set NATS_INBOX_PREFIX to the prefix that it may subscribe to (_INBOX_worker in deploy/nats/permissions.conf)`, "subscribe _INBOX.>",
		},
		{
			`Permissions Violation for Publish to "$JS.API.STREAM.CREATE.USAGE"`, roleWorker,
			`NATS user "u" may not publish to "$JS.API.STREAM.CREATE.USAGE": create the streams with ` + "`meterworker provision`" +
				` and set METERWORKER_MANAGE_STREAMS=false, or give it the provisioner's permissions too (deploy/nats/permissions.conf)`, "publish $JS.API.STREAM.CREATE.USAGE",
		},
		{
			`Permissions Violation for Publish to "$JS.API.STREAM.CREATE.KV_usage_control"`, roleWorker,
			`NATS user "u" may not publish to "$JS.API.STREAM.CREATE.KV_usage_control": give it the worker's permissions (deploy/nats/permissions.conf)`, "publish $JS.API.STREAM.CREATE.KV_usage_control",
		},
		{
			`Permissions Violation for Publish to "$JS.API.CONSUMER.MSG.NEXT.USAGE.worker-3"`, roleWorker,
			`NATS user "u" may not publish to "$JS.API.CONSUMER.MSG.NEXT.USAGE.worker-3": give it the worker's permissions (deploy/nats/permissions.conf)`, "publish $JS.API.CONSUMER.MSG.NEXT.USAGE.>",
		},
		{
			`Permissions Violation for Publish to "$JS.ACK.USAGE.worker-3.1.2.3.4.5"`, roleWorker,
			`NATS user "u" may not publish to "$JS.ACK.USAGE.worker-3.1.2.3.4.5": give it the worker's permissions (deploy/nats/permissions.conf)`, "publish $JS.ACK.USAGE.>",
		},
		{
			`Permissions Violation for Publish to "odd\"subject"`, roleProducer,
			`NATS user "u" may not publish to "odd\"subject": give it the producer's permissions (deploy/nats/permissions.conf)`, `publish odd"subject`,
		},
	} {
		d := asDenial(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, tt.text), "u", tt.needs)
		if d == nil || d.Error() != tt.want || d.family() != tt.family {
			t.Errorf("%s\n got %v (%v)\nwant %s (%s)", tt.text, d, d.family(), tt.want, tt.family)
		}
	}
	if d := asDenial(errors.New("nats: timeout"), "u", roleWorker); d != nil {
		t.Errorf("a time-out is taken for %v", d)
	}
	nameless := asDenial(fmt.Errorf("%w: Permissions Violation", nats.ErrPermissionViolation), "", roleWorker)
	if !strings.HasPrefix(nameless.Error(), "the NATS user of these credentials may not publish") {
		t.Errorf("%v", nameless)
	}
}

func TestLogin(t *testing.T) {
	c := Config{NATSURL: "nats://worker:hunter2@nats:4222"}
	for err, want := range map[error]string{
		nats.ErrAuthorization:      "authorization violation",
		nats.ErrAuthExpired:        "user authentication expired",
		nats.ErrAuthRevoked:        "user authentication revoked",
		nats.ErrAccountAuthExpired: "account authentication expired",
	} {
		l := asLogin(fmt.Errorf("connect: %w", err), c)
		if l == nil || !strings.HasPrefix(l.Error(), `NATS at nats://(redacted)@nats:4222 refuses user "worker" (`+want+`): check`) {
			t.Errorf("%v becomes %v", err, l)
		}
	}
	if l := asLogin(nats.ErrNoServers, c); l != nil {
		t.Errorf("no server is taken for %v", l)
	}
}

func TestNATSUser(t *testing.T) {
	creds := filepath.Join(t.TempDir(), "worker.creds")
	// {"typ":"JWT","alg":"ed25519-nkey"}, {"name":"worker","sub":"UABC"}, a signature
	text := "-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJuYW1lIjoid29ya2VyIiwic3ViIjoiVUFCQyJ9.c2ln\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUANOSUCHSEED\n------END USER NKEY SEED------\n"
	if err := os.WriteFile(creds, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"user and password", Config{NATSURL: "nats://a:4222, nats://u:p@b:4222"}, "u"},
		{"a token is secret", Config{NATSURL: "nats://s3cr3t@a:4222"}, ""},
		{"nobody", Config{NATSURL: "nats://a:4222"}, ""},
		{"credentials", Config{NATSURL: "nats://a:4222", NATSCreds: creds}, "worker"},
		{"credentials that are gone", Config{NATSURL: "nats://a:4222", NATSCreds: creds + ".old"}, ""},
	} {
		if got := natsUser(tt.c); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What the command must be told, it asks for before it connects.
func TestProvisionAsksFor(t *testing.T) {
	for _, tt := range []struct {
		env  environment
		want string
	}{
		{nil, "NATS_URL (--nats-url) is missing"},
		{environment{"NATS_URL": "nats://127.0.0.1:1"}, "METERWORKER_MODE (--mode) is missing"},
		{environment{"NATS_URL": "nats://127.0.0.1:1", "METERWORKER_PARTITIONS": "0"}, "METERWORKER_PARTITIONS"},
	} {
		code, _, stderr := runCommand(t, tt.env, "provision")
		if code != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: exit %d, %q, want %q", tt.env, code, stderr, tt.want)
		}
	}
}

// Streams that cannot be worked with are bad configuration, and stay as they are.
func TestProvisionRefuses(t *testing.T) {
	o := newTestOutbox(t)
	code, stdout, stderr := o.run(strings.NewReader(""), "provision", "--mode", "test", "--partitions", "4")
	if code != 0 || !strings.Contains(stdout, "4 consumers") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, _, stderr = o.run(strings.NewReader(""), "provision", "--mode", "live", "--partitions", "4")
	if code != exitUsage || !strings.Contains(stderr, "metadata mode is test") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// Credentials that have expired end a command at once, with what to check.
func TestExpiredCredentials(t *testing.T) {
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("INFO {\"server_id\":\"x\",\"max_payload\":1048576,\"headers\":true}\r\n"))
			_, _ = bufio.NewReader(conn).ReadString('\n') // CONNECT
			_, _ = conn.Write([]byte("-ERR 'User Authentication Expired'\r\n"))
			_ = conn.Close()
		}
	}()
	code, _, stderr := runCommand(t, environment{"NATS_URL": "nats://" + listener.Addr().String()}, "dlq", "list")
	if code != exitFailed || !strings.Contains(stderr, "refuses these credentials (user authentication expired): check") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// A denial ends the work, and calls that an interruption does not end, although each would
// wait for ten minutes.
func TestADenialEndsTheWork(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "u", Password: "p", Permissions: &natsserver.Permissions{
			Publish: &natsserver.SubjectPermission{Allow: []string{"mine"}},
		}}}
	})
	patient, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	p := &process{Out: io.Discard, Err: io.Discard, Env: environment{"NATS_URL": strings.Replace(server.ClientURL(), "://", "://u:p@", 1)}}
	done := make(chan error, 1)
	go func() {
		done <- withClient(patient, p, &DLQListCmd{}, roleOperator, func(ctx context.Context, c *client) error {
			_, err := c.conn.RequestWithContext(patient, "yours", nil)
			<-ctx.Done()
			return err
		})
	}()
	select {
	case err := <-done:
		want := `NATS user "u" may not publish to "yours": give it the operator's permissions (deploy/nats/permissions.conf)`
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("the work goes on after a denial")
	}
}
