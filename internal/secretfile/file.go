package secretfile

import (
	"context"
	"sync/atomic"
	"time"
)

// Interval is how often a file is read again. That follows every way of replacing it, the
// symlinks of Kubernetes included, which a watch does not.
const Interval = time.Second

// File is what is in a file that may be replaced at any time. Its methods may be called
// concurrently.
type File[T any] struct {
	read    func() (T, error)
	text    func(T) string
	current atomic.Pointer[T]
}

// Open reads for the first time; there must be something valid in the file. Two contents are
// the same where text is.
func Open[T any](read func() (T, error), text func(T) string) (*File[T], error) {
	first, err := read()
	if err != nil {
		return nil, err
	}
	f := &File[T]{read: read, text: text}
	f.current.Store(&first)
	return f, nil
}

// Current is what is in force.
func (f *File[T]) Current() T { return *f.current.Load() }

// Run follows the file until ctx ends. changed is called when something else is in force,
// failed once for each problem, with which the old content stays.
func (f *File[T]) Run(ctx context.Context, changed func(), failed func(error)) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	var seen, reported string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		content, err := f.read()
		now := f.text(content)
		if err != nil {
			now = err.Error()
		}
		settled := now == seen // a file that is being written is not taken half
		seen = now
		switch {
		case !settled:
		case err != nil && reported != now:
			reported = now
			failed(err)
		case err == nil && now != f.text(f.Current()):
			reported = ""
			f.current.Store(&content)
			changed()
		}
	}
}
