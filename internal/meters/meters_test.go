package meters

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const full = `{"id":"mtr_1","event_name":"tokens","status":"inactive","livemode":true,"customer_mapping":{"event_payload_key":"cid"},` +
	`"value_settings":{"event_payload_key":"n"},"default_aggregation":{"formula":"last"},"event_time_window":"hour"}`

// All pages are read, with every field, and what is not said has Stripe's defaults.
func TestList(t *testing.T) {
	var paths []string
	list, err := List(t.Context(), func(_ context.Context, path string) ([]byte, error) {
		if paths = append(paths, path); len(paths) == 1 {
			return []byte(`{"object":"list","has_more":true,"data":[` + full + `]}`), nil
		}
		return []byte(`{"object":"list","data":[{"id":"mtr_2","event_name":"calls","status":"active","default_aggregation":{"formula":"count"},"event_time_window":null}]}`), nil
	})
	want := []Meter{
		{ID: "mtr_1", EventName: "tokens", Live: true, Formula: Last, CustomerKey: "cid", ValueKey: "n", TimeWindow: "hour"},
		{ID: "mtr_2", EventName: "calls", Active: true, Formula: Count, CustomerKey: DefaultCustomerKey, ValueKey: DefaultValueKey},
	}
	if err != nil || !reflect.DeepEqual(list, want) || len(paths) != 2 || !strings.HasSuffix(paths[1], "starting_after=mtr_1") {
		t.Errorf("%+v, %v, %v", list, paths, err)
	}
	if list[0].Adds() || !list[1].Adds() {
		t.Error("the last value adds up, or a count does not")
	}
}

// A list is whole or an error.
func TestListRefuses(t *testing.T) {
	away := errors.New("away")
	for name, answer := range map[string]string{
		"no list": `{"object":"billing.meter"}`, "no JSON": `<html>`, "no name": `{"object":"list","data":[{"id":"mtr_1"}]}`,
		"no id": `{"object":"list","data":[{"event_name":"a"}]}`, "no end": `{"object":"list","has_more":true,"data":[` + full + `]}`,
	} {
		if list, err := List(t.Context(), func(context.Context, string) ([]byte, error) { return []byte(answer), nil }); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
	if _, err := List(t.Context(), func(context.Context, string) ([]byte, error) { return nil, away }); !errors.Is(err, away) {
		t.Error(err)
	}
}

// Of two meters of one event name the active one counts, in whatever order they come.
func TestByName(t *testing.T) {
	for _, active := range []int{0, 1} {
		list := make([]Meter, 2)
		for i := range list {
			list[i] = Meter{ID: fmt.Sprint(i), EventName: "a", Active: i == active}
		}
		if got := ByName(list)["a"].ID; got != fmt.Sprint(active) {
			t.Errorf("meter %s, want %d", got, active)
		}
	}
}
