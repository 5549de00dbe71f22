package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// role is a user of deploy/nats/permissions.conf.
type role string

const (
	roleProducer    role = "producer"
	roleWorker      role = "worker"
	roleProvisioner role = "provisioner"
	roleOperator    role = "operator"
)

// denial is NATS' word that a user lacks a permission. The server answers no call with it:
// only the connection hears of it, and the call would wait for its time-out.
type denial struct {
	user      string // "" where the credentials do not say
	operation string // publish or subscribe
	subject   string
	needs     role
}

// Error names the user, the subject and the remedy.
func (d *denial) Error() string {
	who := "the NATS user of these credentials"
	if d.user != "" {
		who = fmt.Sprintf("NATS user %q", d.user)
	}
	return fmt.Sprintf("%s may not %s to %q: %s", who, d.operation, d.subject, d.remedy())
}

// remedy is what to do. The worker and the commands subscribe to inboxes only.
func (d *denial) remedy() string {
	switch {
	case d.operation == operationSubscribe:
		return fmt.Sprintf("set NATS_INBOX_PREFIX to the prefix that it may subscribe to (_INBOX_%s in deploy/nats/permissions.conf)", d.needs)
	case d.needs == roleWorker && d.provisions():
		return "create the streams with `meterworker provision` and set METERWORKER_MANAGE_STREAMS=false, or give it the provisioner's permissions too (deploy/nats/permissions.conf)"
	default:
		return fmt.Sprintf("give it the %s's permissions (deploy/nats/permissions.conf)", d.needs)
	}
}

// provisions tells what only a worker does that manages its streams.
func (d *denial) provisions() bool {
	for _, prefix := range []string{"STREAM.CREATE.USAGE", "STREAM.CREATE.KV_usage_control_durable", "STREAM.UPDATE.", "CONSUMER.CREATE.USAGE."} {
		if strings.HasPrefix(d.subject, "$JS.API."+prefix) {
			return true
		}
	}
	return false
}

const (
	operationPublish   = "publish"
	operationSubscribe = "subscribe"
)

// family is the subject with its open end cut off, of which there are few: consumers and
// acks have a name of their own each.
func (d *denial) family() string {
	tokens := strings.Split(d.subject, ".")
	keep := 3 // usage.journal.1, $JS.ACK.USAGE, _INBOX_worker.x.*
	switch {
	case d.operation == operationSubscribe:
		keep = 1
	case strings.HasPrefix(d.subject, "usage."):
		keep = 2
	case strings.HasPrefix(d.subject, "$JS.API.CONSUMER.MSG.NEXT."):
		keep = 6
	case strings.HasPrefix(d.subject, "$JS.API."):
		keep = 5
	}
	if len(tokens) <= keep {
		return d.operation + " " + d.subject
	}
	return d.operation + " " + strings.Join(tokens[:keep], ".") + ".>"
}

// asDenial reads the server's error: `Permissions Violation for Publish to "subject"`, or
// for Subscription; nil where it is another one.
func asDenial(err error, user string, needs role) *denial {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	text := err.Error()
	d := &denial{user: user, operation: operationPublish, needs: needs}
	if strings.Contains(text, "Violation for Subscription") {
		d.operation = operationSubscribe
	}
	if at := strings.IndexByte(text, '"'); at >= 0 {
		if quoted, err := strconv.QuotedPrefix(text[at:]); err == nil {
			d.subject, _ = strconv.Unquote(quoted) // it is a quoted prefix
		}
	}
	return d
}

// login is the server's refusal to let us in.
type login struct {
	server, user, reason string
}

// Error names the server and what to check.
func (l *login) Error() string {
	who := "these credentials"
	if l.user != "" {
		who = fmt.Sprintf("user %q", l.user)
	}
	return fmt.Sprintf("NATS at %s refuses %s (%s): check user and password in NATS_URL, the file in NATS_CREDS (does it exist for this server, has it expired?), or the client certificate",
		l.server, who, l.reason)
}

// loginRefusals are the server's words for them, as the client has them while it connects,
// and the errors that it makes of them once it is connected.
var loginRefusals = map[string]error{
	nats.AUTHORIZATION_ERR:                  nats.ErrAuthorization,
	nats.AUTHENTICATION_EXPIRED_ERR:         nats.ErrAuthExpired,
	nats.AUTHENTICATION_REVOKED_ERR:         nats.ErrAuthRevoked,
	nats.ACCOUNT_AUTHENTICATION_EXPIRED_ERR: nats.ErrAccountAuthExpired,
}

// asLogin is nil where the error is another one.
func asLogin(err error, c Config) *login {
	if err == nil {
		return nil
	}
	text := strings.ToLower(err.Error())
	for words, refusal := range loginRefusals {
		if errors.Is(err, refusal) || strings.Contains(text, words) {
			return &login{redactURL(c.NATSURL), natsUser(c), words}
		}
	}
	return nil
}

// natsUser is who we are to NATS, "" where it cannot be told. A user without a password may
// be a token, which is secret.
func natsUser(c Config) string {
	if c.NATSCreds != "" {
		return credsUser(c.NATSCreds)
	}
	for server := range strings.SplitSeq(c.NATSURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err == nil && u.User != nil {
			if _, isUser := u.User.Password(); isUser {
				return u.User.Username()
			}
		}
	}
	return ""
}

// credsUser is the name in a credentials file. The server judges it; here it is shown only.
func credsUser(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(strings.TrimSpace(line), ".")
		if len(parts) != 3 {
			continue
		}
		var claims struct {
			Name string `json:"name"`
		}
		body, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(body, &claims) == nil {
			return claims.Name
		}
	}
	return ""
}
