// Command throughput measures how fast the worker is where nothing limits it, against
// the bare loop with the same SDK: a sink that answers at once, a backlog of the same
// NATS server with every write synced, in turn.
//
//	go run ./bench/throughput -rounds 3
//
// It prints a line for each turn, and the ratio of each round. It judges nothing.
package main

import "github.com/meterworker/meterworker/bench/internal/pair"

func main() {
	pair.Main(
		"throughput", &pair.Work{Events: 30_000, Rounds: 2, Customers: 3000, Latency: "0s"},
		pair.Measure{Name: "events a second", Of: func(t pair.Turn) float64 { return t.PerSecond }},
		pair.Measure{Name: "CPU", Of: func(t pair.Turn) float64 { return t.CPU }},
	)
}
