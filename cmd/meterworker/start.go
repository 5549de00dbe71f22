package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/meterworker/meterworker/internal/outbox"
)

// openStreams waits for NATS as long as it takes; what is refused is final.
func (d *daemon) openStreams(stop context.Context) (*outbox.Streams, error) {
	settings := outbox.Settings{
		Mode: d.cfg.Mode, Partitions: d.cfg.Partitions, Replicas: d.cfg.StreamReplicas,
		Manage: d.cfg.ManageStreams, AckWait: d.cfg.AckWait,
	}
	js, err := jetstream.New(d.broker.conn)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	var streams *outbox.Streams
	err = d.persist(stop, func(ctx context.Context) (err error) {
		streams, err = outbox.Open(ctx, js, settings)
		return err
	})
	return streams, err
}

// persist tries until it succeeds, or is refused, or stop ends; /readyz shows what
// it waits for. A denial ends the try: the server answers no more.
func (d *daemon) persist(stop context.Context, try func(context.Context) error) error {
	trying, cancel := context.WithCancel(stop)
	defer cancel()
	undenied := d.broker.refusals.undenied
	defer context.AfterFunc(undenied, cancel)()
	for {
		err := try(trying)
		var refused *outbox.Refused
		switch {
		case err == nil:
			return nil
		case stop.Err() != nil:
			return errStopped
		case undenied.Err() != nil:
			return &setupError{context.Cause(undenied)}
		case errors.As(err, &refused):
			return &setupError{err}
		}
		if trouble := d.broker.trouble(); trouble != "" {
			err = errors.New(trouble)
		}
		d.waiting(err.Error())
		d.log.Warn("waiting for NATS JetStream", zap.Error(err))
		pauseOrStop(stop)
	}
}

// pauseOrStop is the wait between two looks at a server that is not there.
func pauseOrStop(stop context.Context) {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-stop.Done():
	case <-timer.C:
	}
}
