package main

import (
	"fmt"
	"slices"
	"time"
)

// keyNeed says what a command does with the Stripe key.
type keyNeed int

const (
	keyRequired keyNeed = iota // refused without one
	keyOptional                // used, and then right, when there is one
	keyIgnored                 // never read
)

// loaded is a configuration with the story of its values. Settings are complete
// even when the configuration was refused.
type loaded struct {
	Config   Config
	Settings []setting
	Warnings []string
}

// loadConfig gathers, parses and checks the settings. flags points to a struct
// that embeds Settings or some of its groups. On a refusal the error is a
// *configError with every problem found.
func loadConfig(flags any, env environment, need keyNeed, terminal bool) (loaded, error) {
	settings, problems := gather(givenFlags(flags), env)
	l := &loader{settings: settings, problems: problems, warnings: mistypedVariables(env)}
	config := l.config(env, need, terminal)
	result := loaded{Config: config, Settings: l.settings, Warnings: l.warnings}
	if len(l.problems) > 0 {
		result.Config = Config{}
		return result, &configError{Problems: l.problems}
	}
	return result, nil
}

// loader turns texts into a Config and collects what is wrong on the way.
type loader struct {
	settings []setting
	problems []problem
	warnings []string
}

// config reads every setting, however many are refused before it.
func (l *loader) config(env environment, need keyNeed, terminal bool) Config {
	var c Config
	l.nats(&c)
	l.stripe(&c)
	l.credentials(&c, env, need)
	l.delivery(&c)
	l.streams(&c)
	l.ledger(&c)
	l.http(&c, env)
	if need != keyIgnored {
		l.webhookSecrets(c, env)
	}
	l.tracing(&c, env)
	l.logging(&c, terminal)
	return c
}

func (l *loader) nats(c *Config) {
	c.NATSURL = l.natsURL("nats-url")
	c.NATSCreds = l.file("nats-creds")
	c.NATSCA = l.file("nats-ca")
	c.NATSCert = l.file("nats-cert")
	c.NATSKey = l.file("nats-key")
	c.NATSInboxPrefix = l.subject("nats-inbox-prefix")
	c.DataDir = l.text("data-dir")
	if l.setting("nats-cert").Given() != l.setting("nats-key").Given() {
		given, missing := "nats-cert", "nats-key"
		if l.setting("nats-key").Given() {
			given, missing = missing, given
		}
		l.refuse(given, "certificate and key come in pairs", "set "+l.setting(missing).Variable+" too")
	}
	if l.setting("nats-url").Given() {
		return
	}
	// Without this a forgotten NATS_URL would start an empty embedded server
	// beside the streams that hold the usage.
	for _, name := range []string{"nats-creds", "nats-ca", "nats-cert", "nats-key", "nats-inbox-prefix"} {
		if l.setting(name).Given() {
			l.refuse(name, "has no meaning for the embedded server", "set NATS_URL, or leave it out")
		}
	}
}

func (l *loader) stripe(c *Config) {
	c.API = l.choice("api")
	c.APIBase = l.base("stripe-api-base")
	c.MeterEventsBase = l.base("stripe-meter-events-base")
	c.Version = l.version("stripe-version")
	c.Mode = l.choice("mode")
}

func (l *loader) delivery(c *Config) {
	const day = 24 * time.Hour
	c.AttemptTimeout = l.duration("attempt-timeout", time.Millisecond, day)
	c.ShutdownTimeout = l.duration("shutdown-timeout", time.Millisecond, day)
	c.AckWait = l.duration("ack-wait", time.Millisecond, day)
	c.SafeWindow = l.duration("safe-window", time.Millisecond, 0)
	c.AcceptForeignDuplicates = l.choice("foreign-duplicates") == "accept"
	c.Rate = l.rate("rate", defaultRate(*c))

	// Stripe forgets an identifier after 24 h; a repeat after that is billed.
	if !l.refused("safe-window") && c.SafeWindow >= day {
		l.refuse("safe-window", "is not below the 24h that Stripe remembers an identifier", "set 23h or less")
	}
	if l.refused("attempt-timeout") {
		return
	}
	if !l.refused("safe-window") && c.SafeWindow < c.AttemptTimeout {
		l.refuse("safe-window", fmt.Sprintf("is below the attempt timeout of %s", c.AttemptTimeout), "set it to that at least")
	}
	if least := c.AttemptTimeout + 2*time.Second; !l.refused("ack-wait") && c.AckWait < least {
		l.refuse("ack-wait", fmt.Sprintf("is below the attempt timeout of %s + 2s, so messages would come again while they are sent", c.AttemptTimeout),
			fmt.Sprintf("set %s at least, or shorten METERWORKER_ATTEMPT_TIMEOUT", least))
	}
}

func (l *loader) streams(c *Config) {
	c.Partitions = l.integer("partitions", 1, 256)
	c.StreamReplicas = l.integer("stream-replicas", 1, 5)
	c.Retention = l.duration("retention", 96*time.Hour, 0)
	c.ManageStreams = l.choice("manage-streams") == "true"
}

func (l *loader) ledger(c *Config) {
	c.DedupWindow = l.duration("dedup-window", 25*time.Hour, 8760*time.Hour)
	c.LedgerMaxBytes = l.size("ledger-max-bytes", 1<<20)
	if !l.refused("dedup-window") && !l.refused("retention") && c.DedupWindow < c.Retention {
		l.warnings = append(l.warnings, fmt.Sprintf(
			"METERWORKER_DEDUP_WINDOW=%s is below METERWORKER_RETENTION=%s: if a consumer is made anew, messages that are still kept and already forgotten become ambiguous dead letters",
			c.DedupWindow, c.Retention))
	}
}

func (l *loader) http(c *Config, env environment) {
	c.AdminAddr = l.address("admin-addr")
	l.console(c)
	c.WebhookAddr = l.address("webhook-addr")
	c.WebhookSecretFile = l.file("stripe-webhook-secret-file")
	c.WebhookSecret = secret(env[l.setting("stripe-webhook-secret").Variable])
	if c.WebhookSecretFile != "" && c.WebhookSecret != "" {
		l.warn("stripe-webhook-secret-file", "stripe-webhook-secret")
		c.WebhookSecret = ""
	}
}

func (l *loader) logging(c *Config, terminal bool) {
	c.LogLevel = l.choice("log-level")
	if !l.setting("log-format").Given() {
		l.setting("log-format").Text = "json"
		if terminal {
			l.setting("log-format").Text = "console"
		}
	}
	c.LogFormat = l.choice("log-format")
}

// defaultRate is Stripe's limit for what is talked to, in requests a second, with v2 in events;
// stripe-contract: live v1 1,000, sandboxes 25. A base of one's own is a
// simulator or a proxy, whose limit is taken to be that of live.
func defaultRate(c Config) float64 {
	switch {
	case c.API == apiV2:
		return 10000
	case c.Mode == modeTest && toStripe(c.APIBase):
		return 25
	default:
		return 1000
	}
}

// setting is the setting of that name, which must exist: names are written in
// this program only, and every one of them is read at every start.
func (l *loader) setting(name string) *setting {
	i := slices.IndexFunc(l.settings, func(s setting) bool { return s.Name == name })
	return &l.settings[i]
}

// refuse records a problem with a setting's value.
func (l *loader) refuse(name, detail, remedy string) {
	s := l.setting(name)
	p := problem{Setting: name, Variable: s.Variable, Source: s.Origin, Detail: detail, Remedy: remedy}
	if s.Secret {
		p.Setting = "" // it has no flag
	} else {
		p.Value = shorten(s.shown())
	}
	l.problems = append(l.problems, p)
}

// refused tells whether a setting has a problem already, so that what follows
// from it is not reported as well.
func (l *loader) refused(name string) bool {
	variable := l.setting(name).Variable
	return slices.ContainsFunc(l.problems, func(p problem) bool { return p.Variable == variable })
}

// warn says that of a secret's two sources the file counts.
func (l *loader) warn(file, env string) {
	l.warnings = append(l.warnings, fmt.Sprintf("%s and %s are both set; the file counts",
		l.setting(file).Variable, l.setting(env).Variable))
}
