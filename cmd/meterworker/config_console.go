package main

import (
	"errors"
	"net/url"
	"strings"
)

// console reads who may use the console, and as whom it comes to NATS.
func (l *loader) console(c *Config) {
	c.AdminTokenFile = l.file("admin-token-file")
	if c.AdminTokenFile != "" {
		if _, err := readToken(c.AdminTokenFile); err != nil {
			l.refuse("admin-token-file", errors.Unwrap(err).Error(), "put 16 bytes or more into it, for example by `openssl rand -hex 32`")
		}
	}
	c.AdminReadOnly = l.choice("admin-read-only") == "true"
	c.AdminNATSURL = l.natsURL("admin-nats-url")
	c.AdminNATSCreds = l.file("admin-nats-creds")
	if l.setting("admin-nats-inbox-prefix").Given() {
		c.AdminNATSInboxPrefix = l.subject("admin-nats-inbox-prefix")
	}
	own := l.setting("admin-nats-url").Given() || l.setting("admin-nats-creds").Given()
	for _, name := range []string{"admin-nats-url", "admin-nats-creds", "admin-nats-inbox-prefix"} {
		switch {
		case !l.setting(name).Given():
		case !l.setting("nats-url").Given():
			l.refuse(name, "has no meaning for the embedded server", "set NATS_URL, or leave it out")
		case !own:
			l.refuse(name, "is for a user of the console's own", "set METERWORKER_ADMIN_NATS_CREDS or METERWORKER_ADMIN_NATS_URL too, or leave it out")
		}
	}
}

// forConsole are the settings by which the console comes to NATS: the worker's, unless it
// has a user of its own, of which then nothing is the worker's but servers and certificates.
func (c Config) forConsole() Config {
	if !c.ownConsoleUser() {
		return c
	}
	if c.AdminNATSURL != "" {
		c.NATSURL = c.AdminNATSURL
	} else {
		c.NATSURL = withoutUser(c.NATSURL)
	}
	c.NATSCreds, c.NATSInboxPrefix = c.AdminNATSCreds, c.AdminNATSInboxPrefix
	return c
}

func (c Config) ownConsoleUser() bool { return c.AdminNATSURL != "" || c.AdminNATSCreds != "" }

// withoutUser takes users and passwords out of a list of servers.
func withoutUser(servers string) string {
	var plain []string
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if u, err := url.Parse(server); err == nil && u.User != nil {
			u.User = nil
			server = u.String()
		}
		plain = append(plain, server)
	}
	return strings.Join(plain, ",")
}
