package main

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// text is the value itself, "" for a setting that nobody gave.
func (l *loader) text(name string) string {
	s := l.setting(name)
	if s.Text == "" && s.Given() {
		l.refuse(name, "is empty", "give a value, or leave it out for the default")
	}
	return s.Text
}

// choice is one of the setting's choices, to the letter, or "" if not given.
func (l *loader) choice(name string) string {
	text := l.text(name)
	if text == "" || slices.Contains(l.setting(name).Choices, text) {
		return text
	}
	l.refuse(name, "is no choice", "set one of "+strings.Join(l.setting(name).Choices, ", "))
	return ""
}

// duration is a value with a unit between least and most; a most of 0 is none.
func (l *loader) duration(name string, least, most time.Duration) time.Duration {
	text := l.text(name)
	if text == "" {
		return 0
	}
	const example = "set a duration with its unit, for example 90s, 10m or 36h"
	d, err := time.ParseDuration(text)
	_, unitless := strconv.ParseFloat(text, 64)
	switch {
	case unitless == nil: // ParseDuration accepts a bare 0
		l.refuse(name, "has no unit", example)
	case err != nil:
		l.refuse(name, "is no duration, or too long for one", example)
	case d < least:
		l.refuse(name, "is below "+shortDuration(least), "set "+shortDuration(least)+" or more")
	case most > 0 && d > most:
		l.refuse(name, "is above "+shortDuration(most), "set "+shortDuration(most)+" or less")
	default:
		return d
	}
	return 0
}

// shortDuration writes 96h0m0s as 96h.
func shortDuration(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if rest, ok := strings.CutSuffix(text, zero); ok && rest != "" && !unicode.IsDigit(rune(rest[len(rest)-1])) {
			text = rest
		}
	}
	return text
}

// integer is a whole number between least and most.
func (l *loader) integer(name string, least, most int) int {
	n, err := strconv.Atoi(l.text(name))
	if l.refused(name) {
		return 0
	}
	if err != nil || n < least || n > most {
		l.refuse(name, fmt.Sprintf("is no whole number from %d to %d", least, most), "set one, for example "+l.setting(name).Preset)
		return 0
	}
	return n
}

// decimal leaves out what strconv reads besides: NaN, Inf, hexadecimal, 1_000.
var decimal = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// mostRate in requests a second is five times the most that Stripe offers.
const mostRate = 1e6

// rate is the value, or preset when nobody gave one.
func (l *loader) rate(name string, preset float64) float64 {
	s := l.setting(name)
	if !s.Given() {
		s.Text = strconv.FormatFloat(preset, 'f', -1, 64)
		return preset
	}
	text := l.text(name)
	if text == "" {
		return 0
	}
	rate, err := strconv.ParseFloat(text, 64)
	const remedy = "set requests a second above 0 and up to 1000000, for example 1000"
	switch {
	case !decimal.MatchString(text) || err != nil || math.IsInf(rate, 0):
		l.refuse(name, "is no finite decimal number", remedy)
	case rate <= 0:
		l.refuse(name, "is not above 0", remedy+"; stop the workers to stop the sending")
	case rate > mostRate:
		l.refuse(name, "is above 1000000", remedy)
	default:
		return rate
	}
	return 0
}

// subject is a NATS subject without wildcards, to which tokens can be added.
func (l *loader) subject(name string) string {
	text := l.text(name)
	bad := func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || !unicode.IsPrint(r) }
	if strings.ContainsFunc(text, bad) || slices.Contains(strings.Split(text, "."), "") || strings.HasPrefix(text, "$") {
		if !l.refused(name) {
			l.refuse(name, "is no subject for answers", "set tokens between dots, without wildcards, spaces and a dot at the end, for example _INBOX_worker")
		}
		return ""
	}
	return text
}

// sizeUnits in bytes; no unit is bytes.
var sizeUnits = map[string]float64{
	"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// size is a number of bytes from least to 1 PiB.
func (l *loader) size(name string, least int64) int64 {
	text := l.text(name)
	if l.refused(name) {
		return 0
	}
	number := strings.TrimRightFunc(text, unicode.IsLetter)
	unit, known := sizeUnits[text[len(number):]]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	bytes := n * unit
	const most = 1 << 50
	switch {
	case !known || err != nil || !decimal.MatchString(strings.TrimSpace(number)):
		l.refuse(name, "is no size", "set a number with its unit, for example 512MiB or 2GiB")
	case bytes < float64(least) || bytes > most:
		l.refuse(name, fmt.Sprintf("is not between %d bytes and 1 PiB", least), "set a size in that range, for example "+l.setting(name).Preset)
	default:
		return int64(bytes)
	}
	return 0
}

// address is a host and a port to listen on.
func (l *loader) address(name string) string {
	text := l.text(name)
	if l.refused(name) {
		return ""
	}
	_, port, err := net.SplitHostPort(text)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || (n == 0 && port != "0") {
		l.refuse(name, "is no HOST:PORT with a port from 0 to 65535", "set one, for example "+l.setting(name).Preset)
		return ""
	}
	return text
}

// file is the name of a readable regular file, or "" if not given. It is opened
// here so that a wrong name is found at the start and not at the first use.
func (l *loader) file(name string) string {
	path := l.text(name)
	if path == "" {
		return ""
	}
	if detail := unreadable(path); detail != "" {
		l.refuse(name, detail, "name a regular file that this user may read")
		return ""
	}
	return path
}

// unreadable says why a file cannot be read, "" if it can. It never waits: a
// FIFO without a writer would hold the start for ever.
func unreadable(path string) string {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return withoutPath(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return "is no regular file but a " + kindOf(info.Mode())
	}
	return ""
}

func kindOf(mode os.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&os.ModeNamedPipe != 0:
		return "FIFO"
	default:
		return "device or socket"
	}
}

// versionPattern is Stripe's form, a date and since 2024 a name.
var versionPattern = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(\.[a-z]+)?$`)

func (l *loader) version(name string) string {
	text := l.text(name)
	if text != "" && !versionPattern.MatchString(text) {
		l.refuse(name, "is no version of Stripe's API", "set a date and name such as "+l.setting(name).Preset)
		return ""
	}
	return text
}

// natsURL is a list of server addresses as nats.go reads it.
func (l *loader) natsURL(name string) string {
	text := l.text(name)
	if text == "" {
		return ""
	}
	for server := range strings.SplitSeq(text, ",") {
		if detail := badServer(strings.TrimSpace(server)); detail != "" {
			l.refuse(name, detail, "set addresses such as nats://host:4222, separated by commas")
			return ""
		}
	}
	return text
}

func badServer(server string) string {
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return "is no list of addresses"
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return fmt.Sprintf("has the scheme %q, which is none of nats, tls, ws, wss", u.Scheme)
	case u.Hostname() == "":
		return "names no host"
	case u.Port() != "" && (err != nil || port == 0):
		return "has a port outside 1 to 65535"
	}
	return ""
}
