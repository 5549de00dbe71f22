package stage

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// used is what the kernel says of this process by another way.
func used(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestCPU(t *testing.T) {
	for sum := 0; used(t) < 200*time.Millisecond; sum++ { // something to see
		_ = sum
	}
	before := used(t)
	got, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Both times are cut to ticks, each by itself.
	if after := used(t); got < before-2*tick || got > after+2*tick {
		t.Errorf("%v, want between %v and %v", got, before, after)
	}
}

func TestPeakRSS(t *testing.T) {
	before, err := PeakRSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const more = 64 << 20
	block := make([]byte, before+more)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	after, err := PeakRSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after < before+more || block[0] != 1 {
		t.Errorf("%d bytes after %d more than %d were touched", after, len(block), before)
	}
}

func TestProcessesThatAreNotThere(t *testing.T) {
	const none = 1 << 30 // above the highest pid of Linux
	if _, err := CPU(none); err == nil {
		t.Error("no error from CPU")
	}
	if _, err := PeakRSS(none); err == nil {
		t.Error("no error from PeakRSS")
	}
}
