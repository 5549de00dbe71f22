package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/meterworker/meterworker/bench/internal/stage"
)

// cpu is the user and system time of each process so far.
func (s *servers) cpu() []time.Duration {
	times := make([]time.Duration, len(s.processes))
	for i, p := range s.processes {
		used, err := stage.CPU(p.cmd.Process.Pid)
		if err != nil {
			continue // it has ended, and the books will show it
		}
		times[i] = used
	}
	return times
}

// memory is the peak of the process that is measured.
func (s *servers) memory() string {
	last := s.processes[len(s.processes)-1]
	peak, err := stage.PeakRSS(last.cmd.Process.Pid)
	if err != nil {
		return "not known"
	}
	return fmt.Sprintf("%d kB", peak>>10)
}

// profileSoon takes profiles of worker and NATS while they are at work.
func (s *servers) profileSoon(ctx context.Context) {
	for name, url := range map[string]string{
		"worker": s.pprof + "/debug/pprof/profile?seconds=5", "allocations": s.pprof + "/debug/pprof/allocs?seconds=5",
		"nats": s.natsPprof + "/debug/pprof/profile?seconds=5",
	} {
		go func() {
			stage.Pause(ctx, 3*time.Second)
			if err := save(ctx, url, filepath.Join(s.profile, name+".pprof")); err != nil {
				fmt.Fprintln(os.Stderr, "v2: no profile:", err)
			}
		}()
	}
}

func save(ctx context.Context, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, response.Body); err != nil {
		return err
	}
	return file.Close()
}
