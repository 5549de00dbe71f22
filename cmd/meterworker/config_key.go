package main

import (
	"errors"
	"io/fs"
	"net/url"
	"strings"

	"github.com/meterworker/meterworker/internal/sender"
	"github.com/meterworker/meterworker/internal/webhook"
)

const (
	modeLive = "live"
	modeTest = "test"

	apiV2 = "v2"
)

// credentials finds the Stripe key and holds the mode against it: a test key
// must never settle live usage, nor the other way round.
func (l *loader) credentials(c *Config, env environment, need keyNeed) {
	if need != keyIgnored {
		l.key(c, env, need)
	}
	c.Live = c.Mode == modeLive
	l.spareLive(*c, "stripe-api-base", c.APIBase)
	l.spareLive(*c, "stripe-meter-events-base", c.MeterEventsBase)
	if need != keyIgnored && c.API == apiV2 {
		l.stream(*c)
	}
}

// stream refuses what API v2 cannot work with. Stripe's has no test mode; a simulator does as
// it likes. A session of one is of no use at the other.
func (l *loader) stream(c Config) {
	stripe := toStripe(c.MeterEventsBase)
	switch {
	case l.refused("stripe-api-base") || l.refused("stripe-meter-events-base"):
	case toStripe(c.APIBase) != stripe:
		name, detail := "stripe-meter-events-base", "sessions are opened at Stripe, and hold there only"
		if stripe {
			name, detail = "stripe-api-base", "sessions are opened here, and hold here only; events would go to Stripe"
		}
		l.refuse(name, detail, "set STRIPE_API_BASE and STRIPE_METER_EVENTS_BASE both to the simulator, or neither")
	case stripe && c.Mode == modeTest:
		l.refuse("api", "v2 takes live keys only: Stripe's event stream has no test mode",
			"set v1, or give a live key; for a trial set STRIPE_API_BASE and STRIPE_METER_EVENTS_BASE to `meterworker simulate`")
	}
}

// spareLive keeps a live key from simulators, and live usage from being settled by one.
func (l *loader) spareLive(c Config, name, base string) {
	if c.Live && sender.StandInBase(base) {
		l.refuse(name, "a live key goes to Stripe only, and this is a simulator's address", "leave it out, or use a test key")
	}
}

func (l *loader) key(c *Config, env environment, need keyNeed) {
	file, direct := l.setting("stripe-api-key-file"), l.setting("stripe-api-key")
	switch {
	case file.Given():
		if direct.Given() {
			l.warn(file.Name, direct.Name)
		}
		c.KeyFile = l.text(file.Name)
		watched, err := sender.NewKeyFile(sender.KeyFileConfig{Path: c.KeyFile})
		if err != nil {
			err = errors.New(strings.TrimPrefix(err.Error(), "key file "+c.KeyFile+": ")) // the value stands before it already
		}
		if l.usable(file.Name, err) {
			c.Key = watched.Current()
			l.agree(c)
		}
	case direct.Given():
		key, err := sender.ParseKey(env[direct.Variable])
		if l.usable(direct.Name, err) {
			c.Key = key
			l.agree(c)
		}
	case need == keyRequired:
		l.refuse(file.Name, "no Stripe key",
			"name a file with the secret or restricted key, or set STRIPE_API_KEY in the environment; `meterworker demo` needs none")
	}
}

// usable refuses a key for the reason that sender gives. The rules are sender's,
// so that a key which passes here is one that the delivery accepts.
func (l *loader) usable(name string, err error) bool {
	if err != nil && !l.refused(name) {
		detail, remedy := splitRemedy(err, "name a regular file that holds the secret (sk_) or restricted (rk_) key and nothing else")
		l.refuse(name, detail, remedy)
	}
	return err == nil
}

// splitRemedy parts an error of the form "reason; remedy". Whatever path or
// value it repeats goes through redact, in case it is a key.
func splitRemedy(err error, otherwise string) (detail, remedy string) {
	detail, remedy, ok := strings.Cut(redact(err.Error()), "; ")
	if !ok {
		remedy = otherwise
	}
	return detail, remedy
}

// webhookSecrets judges them by the rules of the receiver, so that what passes here is what
// it accepts.
func (l *loader) webhookSecrets(c Config, env environment) {
	name, err := "stripe-webhook-secret-file", error(nil)
	switch {
	case c.WebhookSecretFile != "":
		if _, err = webhook.NewSecretFile(c.WebhookSecretFile); err != nil {
			err = errors.New(strings.TrimPrefix(err.Error(), "webhook secret file "+c.WebhookSecretFile+": ")) // as with the key
		}
	case c.WebhookSecret != "":
		name = "stripe-webhook-secret"
		_, err = webhook.ParseSecrets(env[l.setting(name).Variable])
	}
	if err != nil && !l.refused(name) {
		detail, remedy := splitRemedy(err, "name a regular file that holds the signing secret (whsec_) of the webhook endpoint")
		l.refuse(name, detail, remedy)
	}
}

// agree takes the mode from the key, or refuses one that differs.
func (l *loader) agree(c *Config) {
	mode, s := modeTest, l.setting("mode")
	if c.Key.Live() {
		mode = modeLive
	}
	if l.refused("mode") {
		return
	}
	if s.Given() && c.Mode != mode {
		l.refuse("mode", "the Stripe key is a "+mode+" key", "set "+mode+", or give a "+c.Mode+" key")
		return
	}
	c.Mode, s.Text = mode, mode
}

// withoutPath is the reason alone: the value shown beside it is the path, and
// has gone through redact, in case it is a key.
func withoutPath(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return redact(err.Error())
}

// base is a base URL of Stripe or of a stand-in, "" for Stripe itself.
func (l *loader) base(name string) string {
	text := l.text(name)
	if text == "" {
		return ""
	}
	if err := sender.ValidateBase(text); err != nil {
		detail, remedy := splitRemedy(err, "leave it out for Stripe, or set http on loopback")
		if _, reason, ok := strings.Cut(detail, "\": "); ok {
			detail = reason
		}
		l.refuse(name, detail, remedy)
		return ""
	}
	return text
}

// toStripe tells Stripe from a stand-in.
func toStripe(base string) bool {
	u, err := url.Parse(base)
	return base == "" || err == nil && (strings.EqualFold(u.Hostname(), "api.stripe.com") || strings.EqualFold(u.Hostname(), "meter-events.stripe.com"))
}
