// Command cost measures what the worker's promises cost at Stripe's limit: user and
// system time for 10,000 events at 1,000 a second, against the bare loop with the same
// SDK, in turn, draining a backlog of the same NATS server with every write synced.
//
//	go run ./bench/cost -rounds 3
//
// It prints a line for each turn, and the ratio of each round. It judges nothing.
package main

import (
	"flag"

	"github.com/meterworker/meterworker/bench/internal/pair"
)

func main() {
	w := &pair.Work{Rate: 1000, Events: 20_000, Rounds: 2, Customers: 3000, Latency: "80ms"}
	flag.IntVar(&w.Rate, "rate", w.Rate, "requests a second, of both")
	pair.Main("cost", w,
		pair.Measure{Name: "CPU", Of: func(t pair.Turn) float64 { return t.CPU }},
		pair.Measure{Name: "CPU of the NATS server", Of: func(t pair.Turn) float64 { return t.NATS }},
	)
}
