//go:build faultpoints

package faultpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Enabled tells whether this is a test build.
const Enabled = true

// Names of the environment that a test build reads once, at its start. A value that
// names nothing ends the process: a test must not pass because of a typo.
const (
	planVariable = "METERWORKER_FAULTPOINT"
	bugVariable  = "METERWORKER_SEEDED_BUG"
)

// exitCode is that of a process killed by SIGKILL.
const exitCode = 137

type plan struct {
	point  Point
	action string
	at     int64
}

var (
	planned = readPlan(os.Getenv(planVariable))
	seeded  = readBug(os.Getenv(bugVariable))
	passed  atomic.Int64
)

func readPlan(text string) plan {
	if text == "" {
		return plan{}
	}
	fields := strings.Split(text, ":")
	p := plan{point: Point(fields[0]), at: 1}
	if len(fields) > 1 {
		p.action = fields[1]
	}
	if len(fields) > 2 {
		p.at, _ = strconv.ParseInt(fields[2], 10, 64)
	}
	known := slices.Contains(Points(), p.point) && slices.Contains([]string{"exit", "hang", "stop", "error"}, p.action)
	if !known || p.at < 1 || len(fields) > 3 {
		refuse(planVariable, text)
	}
	return p
}

func readBug(text string) Bug {
	if text != "" && !slices.Contains(Bugs(), Bug(text)) {
		refuse(bugVariable, text)
	}
	return Bug(text)
}

func refuse(name, value string) {
	_, _ = fmt.Fprintf(os.Stderr, "%s=%q names no fault\n", name, value)
	os.Exit(2)
}

// At takes the planned action when the point is passed for the planned time.
func At(p Point) error {
	if p != planned.point || passed.Add(1) != planned.at {
		return nil
	}
	_, _ = fmt.Fprintf(os.Stderr, "faultpoint %s: %s\n", p, planned.action)
	switch planned.action {
	case "exit":
		os.Exit(exitCode)
	case "hang":
		select {}
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return nil
	}
	return fmt.Errorf("planned fault at %q", p)
}

// Seeded reports whether the bug is on.
func Seeded(b Bug) bool { return b == seeded }
