package embedded

import (
	"errors"
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"
)

// serverLog hands nats-server's lines to zap and remembers what it calls fatal.
// Its notices, some thirty at every start, are debug lines here.
type serverLog struct {
	log   *zap.Logger
	fatal atomic.Pointer[error]
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }

// Fatalf keeps the first fatal line instead of ending the process, as
// nats-server's own logger does: the caller still has messages to settle.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	err := errors.New(text)
	l.fatal.CompareAndSwap(nil, &err)
}

// err is the first fatal line, or nil.
func (l *serverLog) err() error {
	if first := l.fatal.Load(); first != nil {
		return *first
	}
	return nil
}
