package sender

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meterworker/meterworker/internal/delivery"
)

// Bounds of what an answer carries on, in bytes.
const (
	maxDetail    = 512
	maxCode      = 128
	maxRequestID = 128
)

const maxRetryAfter = 300 * time.Second

// secrets matches API keys and webhook secrets, masked ones included, up to the
// next white space. Inside a longer word only the unmistakable forms count, so
// that task_1 stays readable.
var secrets = regexp.MustCompile(`(?i)(?:[sr]k_(?:test|live)_|whsec_|\b[sr]k_)\S*`)

// printable makes foreign text fit for logs and headers: no secrets, no control
// or formatting characters, valid UTF-8, at most limit bytes.
func printable(text string, limit int) string {
	if len(text) <= limit && plain(text) {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = secrets.ReplaceAllString(text, "[redacted]")
	if len(text) <= limit {
		return text
	}
	cut := limit
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// plain reports whether text is printable ASCII without the beginning of a secret, as
// most is: nothing of it need be changed.
func plain(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c > '~' {
			return false
		}
		if c == '_' && i > 0 {
			if before := text[i-1] | 0x20; before == 'k' || before == 'c' { // sk_, rk_, whsec_
				return false
			}
		}
	}
	return true
}

// lower folds ASCII only, so that offsets stay those of the original.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

// What may stand before and after an identifier in a sentence. Neither list
// joins words: "tenant:req-1" and "req-1.b" are identifiers of their own.
const (
	opening = " \t\r\n'\"`‘“(["
	closing = "'\"`’”)].,:;"
)

// names reports whether text holds identifier as a word of its own: "req-1" is
// not named by "req-12".
func names(text, identifier string) bool {
	text = strings.TrimLeft(text, ":"+opening)
	for identifier != "" {
		before, after, found := strings.Cut(text, identifier)
		if !found {
			return false
		}
		last, _ := utf8.DecodeLastRuneInString(before)
		opened := before == "" || strings.ContainsRune(opening, last)
		after = strings.TrimLeft(after, closing)
		if opened && (after == "" || strings.ContainsRune(" \t\r\n", rune(after[0]))) {
			return true
		}
		text = text[len(before)+1:]
	}
	return false
}

// retryAfter reads Retry-After: whole seconds or an HTTP date, from 0 to 300 s.
// What is neither, or past, is as good as absent.
func retryAfter(value string, now time.Time) time.Duration {
	if value = strings.TrimSpace(value); value == "" {
		return 0
	}
	seconds, err := strconv.ParseUint(value, 10, 64)
	if errors.Is(err, strconv.ErrRange) || err == nil && seconds > uint64(maxRetryAfter/time.Second) {
		return maxRetryAfter
	}
	if err == nil {
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}

func shouldRetry(value string) delivery.Retry {
	switch lower(strings.TrimSpace(value)) {
	case "true":
		return delivery.RetryYes
	case "false":
		return delivery.RetryNo
	default:
		return delivery.RetryUnsaid
	}
}

func isQuote(r rune) bool { return strings.ContainsRune(opening+closing, r) }
