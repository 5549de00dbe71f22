// Package meters is what Stripe says of the account's meters: which event name has one,
// whether it counts, by which keys of the payload, and what it makes of the values.
//
// Invariants:
//   - A list is whole or an error: no verdict is drawn from some of its pages.
//   - Nothing here sends: who lists brings the permits.
package meters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// Formula is what a meter makes of the values of a window.
type Formula string

// The formulas that Stripe documents.
const (
	Sum   Formula = "sum"
	Count Formula = "count"
	Last  Formula = "last"
)

const statusActive = "active"

// The payload's keys, unless a meter has others.
const (
	DefaultCustomerKey = "stripe_customer_id"
	DefaultValueKey    = "value"
)

// Meter is one of the account's.
type Meter struct {
	ID          string
	EventName   string
	Active      bool
	Live        bool
	Formula     Formula
	CustomerKey string
	ValueKey    string
	TimeWindow  string // "" where each event counts for itself
}

// Adds reports whether the meter's value is a sum over its events. Of the others one event can
// take the place of another, so that no sum of ours says what they come to.
func (m Meter) Adds() bool { return (m.Formula == Sum || m.Formula == Count) && m.TimeWindow == "" }

// object is a meter as Stripe writes it.
type object struct {
	ID        string `json:"id"`
	EventName string `json:"event_name"`
	Status    string `json:"status"`
	Live      bool   `json:"livemode"`
	Customer  struct {
		Key string `json:"event_payload_key"`
	} `json:"customer_mapping"`
	Value struct {
		Key string `json:"event_payload_key"`
	} `json:"value_settings"`
	Aggregation struct {
		Formula Formula `json:"formula"`
	} `json:"default_aggregation"`
	TimeWindow string `json:"event_time_window"`
}

func (o object) meter() Meter {
	m := Meter{
		ID: o.ID, EventName: o.EventName, Active: o.Status == statusActive, Live: o.Live, Formula: o.Aggregation.Formula,
		CustomerKey: DefaultCustomerKey, ValueKey: DefaultValueKey, TimeWindow: o.TimeWindow,
	}
	if o.Customer.Key != "" {
		m.CustomerKey = o.Customer.Key
	}
	if o.Value.Key != "" {
		m.ValueKey = o.Value.Key
	}
	return m
}

var errNoList = errors.New("what answers is not Stripe's list of meters; check STRIPE_API_BASE and the proxy")

// parse reads one page.
func parse(body []byte) (page []Meter, more bool, err error) {
	var list struct {
		Object  string   `json:"object"`
		Data    []object `json:"data"`
		HasMore bool     `json:"has_more"`
	}
	if err := json.Unmarshal(body, &list); err != nil || list.Object != "list" {
		return nil, false, errNoList
	}
	for _, o := range list.Data {
		if o.ID == "" || o.EventName == "" {
			return nil, false, errNoList
		}
		page = append(page, o.meter())
	}
	return page, list.HasMore, nil
}

// mostPages bounds a list that does not end: 10,000 meters.
const mostPages = 100

// List reads all meters, whatever their status, a hundred a request.
func List(ctx context.Context, read func(ctx context.Context, path string) ([]byte, error)) ([]Meter, error) {
	var all []Meter
	path := "/v1/billing/meters?limit=100"
	for range mostPages {
		body, err := read(ctx, path)
		if err != nil {
			return nil, err
		}
		page, more, err := parse(body)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if !more || len(page) == 0 {
			return all, nil
		}
		path = "/v1/billing/meters?limit=100&starting_after=" + url.QueryEscape(page[len(page)-1].ID)
	}
	return nil, fmt.Errorf("the list of meters does not end after %d pages", mostPages)
}

// ByName is the meter of each event name: the active one, where one was archived and made
// anew under its name.
func ByName(list []Meter) map[string]Meter {
	names := make(map[string]Meter, len(list))
	for _, m := range list {
		if other, known := names[m.EventName]; !known || !other.Active && m.Active {
			names[m.EventName] = m
		}
	}
	return names
}
