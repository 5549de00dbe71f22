package simulator

import (
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxEventName    = 100 // characters
	maxIdentifier   = 255 // characters; Stripe's current spec says 100
	maxPayloadValue = 100 // characters
	maxPast         = 35 * 24 * time.Hour
	maxAhead        = 5 * time.Minute

	formType = "application/x-www-form-urlencoded"
)

var (
	payloadParam = regexp.MustCompile(`^payload\[([^\[\]]+)\]$`)
	wholeNumber  = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	unixSeconds  = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17})$`)
)

// event is a meter event as it came in; customer and value are found by the
// meter's keys, see [Simulator.resolve].
type event struct {
	name       string
	identifier string
	payload    map[string]string
	timestamp  int64 // Unix seconds
	customer   string
	value      int64
}

// formEvent is a form body: what could be read of it, and what is wrong with it.
type formEvent struct {
	event
	params    url.Values
	timestamp string
	refusal   *answer
}

func parseForm(body []byte) formEvent {
	params, err := url.ParseQuery(string(body))
	f := formEvent{params: params}
	f.payload = make(map[string]string)
	if err != nil || !utf8.Valid(body) {
		f.refusal = invalid("", "parameter_invalid", "Invalid request: the body is not a form of UTF-8.")
	}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if refusal := f.take(key, params[key]); refusal != nil && f.refusal == nil {
			f.refusal = refusal
		}
	}
	return f
}

func (f *formEvent) take(key string, values []string) *answer {
	value := values[0]
	if len(values) > 1 {
		return invalid(key, "parameter_invalid", "Invalid parameter: %s was given %d times.", key, len(values))
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return invalid(key, "parameter_invalid", "Invalid characters in %s.", key)
	}
	switch key {
	case "event_name":
		f.name = value
	case "identifier":
		f.identifier = value
	case "timestamp":
		f.timestamp = value
	default:
		match := payloadParam.FindStringSubmatch(key)
		if match == nil {
			return invalid(key, "parameter_unknown", "Received unknown parameter: %s", key)
		}
		f.payload[match[1]] = value
	}
	return nil
}

// eventFromForm is the event, if the request is one that Stripe would execute.
func (s *Simulator) eventFromForm(c *call) (event, *answer) {
	mediaType, _, err := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	if err != nil || mediaType != formType {
		return event{}, invalid("", "", "Invalid request (check that your POST content type is %s).", formType)
	}
	if c.request.URL.RawQuery != "" {
		return event{}, invalid("", "parameter_unknown", "Received unknown parameters in the query.")
	}
	if c.form.refusal != nil {
		return event{}, c.form.refusal
	}
	e := c.form.event
	if refusal := checkShape(e); refusal != nil {
		return event{}, refusal
	}
	timestamp, refusal := parseTimestamp(c.form.timestamp)
	if refusal != nil {
		return event{}, refusal
	}
	e.timestamp = timestamp
	resolved, problem := s.resolve(e)
	if problem != nil {
		return event{}, invalid(problem.Param, problem.Code, "%s", problem.Message)
	}
	return resolved, nil
}

func parseTimestamp(text string) (int64, *answer) {
	if text == "" {
		return 0, missing("timestamp")
	}
	if !unixSeconds.MatchString(text) {
		return 0, invalid("timestamp", "parameter_invalid_integer", "Invalid integer: %s", text)
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, invalid("timestamp", "parameter_invalid_integer", "Invalid integer: %s", text)
	}
	return seconds, nil
}

func missing(param string) *answer {
	return invalid(param, "parameter_missing", "Missing required param: %s.", param)
}

// checkShape is what holds for an event whatever its meter.
func checkShape(e event) *answer {
	switch {
	case e.name == "":
		return missing("event_name")
	case e.identifier == "":
		return missing("identifier") // optional for Stripe; a sender without it bills twice
	case len(e.payload) == 0:
		return missing("payload")
	}
	if refusal := tooLong("event_name", e.name, maxEventName); refusal != nil {
		return refusal
	}
	if refusal := tooLong("identifier", e.identifier, maxIdentifier); refusal != nil {
		return refusal
	}
	for _, key := range slices.Sorted(maps.Keys(e.payload)) {
		if refusal := tooLong("payload["+key+"]", e.payload[key], maxPayloadValue); refusal != nil {
			return refusal
		}
	}
	return nil
}

func tooLong(param, value string, limit int) *answer {
	if n := utf8.RuneCountInString(value); n > limit {
		return invalid(param, "parameter_invalid_string_too_long",
			"Invalid string: must be at most %d characters, has %d.", limit, n)
	}
	return nil
}

// resolve finds customer and value by the meter's keys and checks them and the
// timestamp. An event name without a meter has no keys: Stripe refuses it later,
// see [Simulator.laterRefusal]. The problem's code is one of Stripe's own list of
// asynchronous errors.
func (s *Simulator) resolve(e event) (event, *apiError) {
	if problem := s.checkTime(e.timestamp); problem != nil {
		return e, problem
	}
	meter, known := s.meters.byEventName(e.name)
	if !known {
		e.customer = e.payload[defaultCustomerKey]
		return e, nil
	}
	e.customer = e.payload[meter.CustomerKey]
	if e.customer == "" {
		return e, payloadProblem("meter_event_no_customer_defined", meter.CustomerKey, "no customer is given")
	}
	text, given := e.payload[meter.ValueKey]
	if !given {
		return e, payloadProblem("meter_event_value_not_found", meter.ValueKey, "no value is given")
	}
	value, err := parseValue(text)
	switch {
	case errors.Is(err, errDigits):
		return e, payloadProblem("meter_event_value_too_many_digits", meter.ValueKey, err.Error())
	case err != nil:
		return e, payloadProblem("meter_event_invalid_value", meter.ValueKey, err.Error())
	}
	e.value = value
	return e, nil
}

func payloadProblem(code, key, reason string) *apiError {
	param := "payload[" + key + "]"
	return &apiError{Code: code, Param: param, Message: fmt.Sprintf("Invalid %s: %s.", param, reason)}
}

func (s *Simulator) checkTime(timestamp int64) *apiError {
	now := s.Now()
	at := time.Unix(timestamp, 0)
	switch {
	case at.Before(now.Add(-maxPast)):
		return &apiError{
			Code: "timestamp_too_far_in_past", Param: "timestamp",
			Message: "The timestamp must be within the past 35 calendar days.",
		}
	case at.After(now.Add(maxAhead)):
		return &apiError{
			Code: "timestamp_in_future", Param: "timestamp",
			Message: "The timestamp must be at most 5 minutes in the future.",
		}
	}
	return nil
}

// maxDigits: beyond 15 significant digits Stripe's sums lose precision.
const maxDigits = 15

var errDigits = errors.New("more than 15 digits")

func parseValue(text string) (int64, error) {
	if !wholeNumber.MatchString(text) {
		return 0, errors.New("not a whole number")
	}
	if len(strings.TrimPrefix(text, "-")) > maxDigits {
		return 0, errDigits
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("not a whole number: %w", err)
	}
	return value, nil
}

var contentSeed = maphash.MakeSeed()

// fingerprint tells contents apart: the same identifier must always come with
// the same one.
func (e event) fingerprint() uint64 {
	var h maphash.Hash
	h.SetSeed(contentSeed)
	field := func(text string) {
		fmt.Fprintf(&h, "%d:%s", len(text), text)
	}
	field(e.name)
	field(e.identifier)
	field(strconv.FormatInt(e.timestamp, 10))
	for _, key := range slices.Sorted(maps.Keys(e.payload)) {
		field(key)
		field(e.payload[key])
	}
	return h.Sum64()
}

// checkQuery refuses parameters of a GET that Stripe does not know.
func checkQuery(r *http.Request, known ...string) (url.Values, *answer) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("", "parameter_invalid", "Invalid query.")
	}
	for key, values := range params {
		switch {
		case !slices.Contains(known, key):
			return nil, invalid(key, "parameter_unknown", "Received unknown parameter: %s", key)
		case len(values) > 1:
			return nil, invalid(key, "parameter_invalid", "Invalid parameter: %s was given %d times.", key, len(values))
		}
	}
	return params, nil
}
