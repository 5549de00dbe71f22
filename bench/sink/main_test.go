package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSink(t *testing.T) {
	s := &sink{arrivals: map[string]int64{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.event))
	server.Config.ConnState = s.connection
	server.Start()
	defer server.Close()
	const form = "event_name=calls&identifier=%22a%22&timestamp=1795348000&payload[stripe_customer_id]=cus_1&payload[value]=7"
	for range 2 {
		response, err := http.Post(server.URL, "application/x-www-form-urlencoded", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Identifier string `json:"identifier"`
			Livemode   *bool  `json:"livemode"`
			Timestamp  int64  `json:"timestamp"`
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || answer.Identifier != `"a"` || answer.Livemode == nil || answer.Timestamp != 1795348000 {
			t.Errorf("%s %+v %v", response.Status, answer, err)
		}
	}
	if s.counts.requests.Load() != 2 || s.counts.connections.Load() != 1 || len(s.arrivals) != 1 || s.arrivals[`"a"`] == 0 {
		t.Errorf("%d requests, %d connections, arrivals %v", s.counts.requests.Load(), s.counts.connections.Load(), s.arrivals)
	}
}
