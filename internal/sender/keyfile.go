package sender

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/meterworker/meterworker/internal/secretfile"
)

const (
	maxKeyFile          = secretfile.MaxBytes
	defaultPollInterval = time.Second
)

// KeyFileConfig is what [NewKeyFile] needs.
type KeyFileConfig struct {
	Path     string
	Interval time.Duration // between two looks; 0 means 1 s

	OnChange func(Key)   // a new valid key is in force; called by Run; may be nil
	OnError  func(error) // the file has no usable key, the old one stays; once for each problem; may be nil
}

// KeyFile is a key in a file that a secret store may replace at any time. It
// reads the file again and again instead of watching it: that follows every way
// of replacing it, the symlinks of Kubernetes included.
type KeyFile struct {
	cfg     KeyFileConfig
	current atomic.Pointer[Key]
}

// NewKeyFile reads the file. It fails where there is no valid key in it, and
// never blocks on a pipe.
func NewKeyFile(cfg KeyFileConfig) (*KeyFile, error) {
	if cfg.Interval < 0 {
		return nil, fmt.Errorf("key file %s: interval %v is negative", cfg.Path, cfg.Interval)
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultPollInterval
	}
	key, err := readKey(cfg.Path)
	if err != nil {
		return nil, err
	}
	k := &KeyFile{cfg: cfg}
	k.current.Store(&key)
	return k, nil
}

// Current is the last valid key.
func (k *KeyFile) Current() Key { return *k.current.Load() }

// Run looks at the file until ctx ends.
func (k *KeyFile) Run(ctx context.Context) {
	ticker := time.NewTicker(k.cfg.Interval)
	defer ticker.Stop()
	var w watch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.look(&w)
		}
	}
}

// watch is what Run remembers from look to look.
type watch struct {
	seen     look
	reported string // the problem last reported
}

// look is what one reading of the file yielded.
type look struct{ secret, problem string }

// look takes what the file holds into force once two looks in a row agree: a key
// that is being written in place can be cut to a shorter one that looks valid.
func (k *KeyFile) look(w *watch) {
	key, err := k.read()
	now := look{secret: key.Reveal()}
	if err != nil {
		now.problem = err.Error()
	}
	settled := now == w.seen
	w.seen = now
	if !settled {
		return
	}
	if err != nil {
		k.report(w, err)
		return
	}
	w.reported = ""
	if !key.Equal(k.Current()) {
		k.current.Store(&key)
		if k.cfg.OnChange != nil {
			k.cfg.OnChange(key)
		}
	}
}

func (k *KeyFile) report(w *watch, err error) {
	if w.reported == err.Error() {
		return
	}
	w.reported = err.Error()
	if k.cfg.OnError != nil {
		k.cfg.OnError(err)
	}
}

// read refuses a key of the other mode: test usage must not become live usage
// because a file was swapped.
func (k *KeyFile) read() (Key, error) {
	key, err := readKey(k.cfg.Path)
	if err == nil && key.Live() != k.Current().Live() {
		return Key{}, fmt.Errorf("key file %s: a %s key has replaced a %s key; the old one stays in force, restart to change the mode",
			k.cfg.Path, modeName(key.Live()), modeName(k.Current().Live()))
	}
	return key, err
}

func readKey(path string) (Key, error) {
	content, err := secretfile.Read(path, "key")
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: %w", path, err)
	}
	key, err := ParseKey(string(content))
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}
