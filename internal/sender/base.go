package sender

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

const baseRemedy = "use " + DefaultBase + ", https://meter-events.stripe.com, http(s) to a loopback host, " +
	"or https to a simulator by a host name without a dot"

// ValidateBase accepts the bases that a key may be sent to: Stripe's two API
// hosts over https, loopback hosts over http or https, and hosts of a private
// network (see [StandInBase]) over https, with nothing but a port behind the host.
// The error names the value and the remedy.
func ValidateBase(raw string) error {
	if problem := baseProblem(raw); problem != nil {
		return fmt.Errorf("API base %q: %w; %s", shown(raw), problem, baseRemedy)
	}
	return nil
}

func baseProblem(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the scheme is not https")
	case u.User != nil:
		return errors.New("user information before the host is not allowed: the host is what follows the @")
	case strings.ContainsAny(raw, "?#"):
		return errors.New("a query or fragment is not allowed")
	case u.Path != "" && u.Path != "/":
		return errors.New("a path is not allowed")
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"):
		return errors.New("the port is missing")
	case loopbackHost(u.Hostname()):
		return nil
	case privateHost.MatchString(u.Hostname()):
		if u.Scheme != "https" {
			return errors.New("plain http would show the key to the network")
		}
		return nil
	case !stripeHost(u.Hostname()):
		return errors.New("the host is neither Stripe's nor loopback: the key would go there")
	case u.Scheme != "https":
		return errors.New("plain http would show the key to the network")
	case u.Port() != "" && u.Port() != "443":
		return errors.New("Stripe answers on port 443 only")
	}
	return nil
}

// shown keeps a password, or a key put in the wrong place, out of the message.
func shown(raw string) string {
	if scheme, rest, ok := strings.Cut(raw, "://"); ok {
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			raw = scheme + "://[redacted]" + rest[at:]
		}
	}
	return printable(raw, maxDetail)
}

func stripeHost(host string) bool {
	return strings.EqualFold(host, "api.stripe.com") || strings.EqualFold(host, "meter-events.stripe.com")
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// privateHost is a name without a dot. No public authority certifies one, so over https
// it is reached only by a worker that was given an authority of its own on purpose. An
// underscore is no part of a host name, so a key in the wrong place is none, and a number
// may be an address.
var privateHost = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// StandInBase reports whether a base that [ValidateBase] accepted is a simulator's in a
// private network, to which no live key may go.
func StandInBase(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && !loopbackHost(u.Hostname()) && privateHost.MatchString(u.Hostname())
}

// loopbackBase reports whether a base that ValidateBase accepted is on loopback.
func loopbackBase(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && loopbackHost(u.Hostname())
}
