package main

import (
	"strings"
	"testing"
)

// API v2 is for live keys at Stripe itself, and for anything at a simulator; both addresses
// belong together. Nothing falls back to v1.
func TestStreamSettings(t *testing.T) {
	const simulator, private = "http://127.0.0.1:12111", "https://simulator:12111"
	live, test := "sk_live_51abcDEFghiJKL0123456789", "sk_test_51abcDEFghiJKL0123456789"
	for _, c := range []struct {
		name, key, api, events string
		variable, detail       string // of the problem; "": none
	}{
		{"live key, Stripe", live, "", "", "", ""},
		{"live key, Stripe by name", live, "https://api.stripe.com", "https://meter-events.stripe.com", "", ""},
		{"test key, Stripe", test, "", "", "METERWORKER_API", "takes live keys only"},
		{"test key, Stripe by name", test, "https://api.stripe.com", "https://meter-events.stripe.com", "METERWORKER_API", "takes live keys only"},
		{"test key, simulator", test, simulator, simulator, "", ""},
		{"test key, simulator in a private network", test, private, private, "", ""},
		{"live key, simulator on loopback", live, simulator, simulator, "", ""},
		{"live key, simulator in a private network", live, private, private, "STRIPE_METER_EVENTS_BASE", "a live key goes to Stripe only"},
		{"session of a simulator for Stripe", live, simulator, "", "STRIPE_API_BASE", "hold here only"},
		{"session of Stripe for a simulator", test, "", simulator, "STRIPE_METER_EVENTS_BASE", "hold there only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := environment{"METERWORKER_API": apiV2, "STRIPE_API_KEY": c.key}
			for variable, value := range map[string]string{"STRIPE_API_BASE": c.api, "STRIPE_METER_EVENTS_BASE": c.events} {
				if value != "" {
					env[variable] = value
				}
			}
			result, problems := load(t, env)
			if c.variable != "" {
				wantProblem(t, problems, c.variable, c.detail)
				return
			}
			if problems != nil || result.Config.API != apiV2 || result.Config.Rate != 10000 {
				t.Errorf("%+v, %v", result.Config, problems)
			}
		})
	}
	_, problems := load(t, environment{"METERWORKER_API": apiV2, "STRIPE_API_KEY": test})
	if text := (&configError{problems}).Error(); !strings.Contains(text, "set v1, or give a live key") {
		t.Errorf("no remedy: %s", text)
	}
}
