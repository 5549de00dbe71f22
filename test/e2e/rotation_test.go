package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/simulator"
)

// keyLog is one worker's way to Stripe; it knows which key each request carried.
type keyLog struct {
	*httptest.Server

	mu   sync.Mutex
	keys []string
}

func (w *world) keyLog() *keyLog {
	w.t.Helper()
	k := &keyLog{}
	k.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		k.mu.Lock()
		k.keys = append(k.keys, strings.TrimPrefix(in.Header.Get("Authorization"), "Bearer "))
		k.mu.Unlock()
		w.stripe.ServeHTTP(out, in)
	}))
	w.t.Cleanup(k.Close)
	return k
}

func (k *keyLog) count(key string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, used := range k.keys {
		if used == key {
			n++
		}
	}
	return n
}

// secret is a file that a key is kept in, and a way to replace it.
type secret struct {
	path    string
	replace func(t *testing.T, key string)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inPlace(t *testing.T, key string) secret {
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, key)
	return secret{path, func(t *testing.T, key string) { writeFile(t, path, key) }}
}

func byRename(t *testing.T, key string) secret {
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, key)
	return secret{path, func(t *testing.T, key string) {
		writeFile(t, path+".new", key+"\n")
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}}
}

// likeKubernetes keeps the file behind two links; the inner one is swapped and the old
// folder removed.
func likeKubernetes(t *testing.T, key string) secret {
	dir := t.TempDir()
	swap := func(t *testing.T, key string) {
		old, _ := os.Readlink(filepath.Join(dir, "..data")) // none at first
		now := filepath.Join(dir, "..of_"+key)
		if err := os.Mkdir(now, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(now, "key"), key)
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(filepath.Base(now), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		if old != "" {
			if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap(t, key)
	path := filepath.Join(dir, "key")
	if err := os.Symlink(filepath.Join("..data", "key"), path); err != nil {
		t.Fatal(err)
	}
	return secret{path, swap}
}

const oldKey, newKey = "sk_test_old", "sk_test_new"

// A key is rotated under load and the old one revoked, before or after the new one is
// there, however the file is replaced: nothing is lost or doubled or buried, each
// worker halts once at most, and no request carries the old key once it was refused or
// replaced.
func TestRotationOfTheKey(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(*testing.T, string) secret{"in place": inPlace, "by rename": byRename, "like Kubernetes": likeKubernetes} {
		for order, revokedFirst := range map[string]bool{"revoked first": true, "written first": false} {
			t.Run(name+", "+order, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, simulator.Config{Keys: []string{oldKey}, Latency: 20 * time.Millisecond})
				file := keep(t, oldKey)
				var workers []*worker
				var logs []*keyLog
				for range 2 {
					logs = append(logs, w.keyLog())
					workers = append(workers, w.start("STRIPE_API_KEY=", "STRIPE_API_KEY_FILE="+file.path, "STRIPE_API_BASE="+logs[len(logs)-1].URL, "METERWORKER_RATE=300"))
				}
				w.until("each worker to own a share", func() bool {
					return workers[0].ready() && workers[1].ready() && owned(workers[0]) > 0 && owned(workers[0])+owned(workers[1]) == 24
				})
				p := traffic(t, 1500, 300, 3)
				w.publish(p.events[:800])
				w.until("some of it", func() bool { return w.stripe.Totals().Counted >= 200 })
				if revokedFirst {
					w.stripe.SetKeys(newKey)
					w.publish(p.events[800:])
					w.until("all to halt", func() bool { return quiet(workers[0]) && quiet(workers[1]) })
					before := []int{logs[0].count(oldKey), logs[1].count(oldKey)}
					file.replace(t, newKey)
					w.until("everything to be acked", w.settled)
					for i, log := range logs {
						if n := log.count(oldKey); n != before[i] {
							t.Errorf("worker %d: %d requests with the revoked key after its halt", i, n-before[i])
						}
					}
				} else {
					w.stripe.SetKeys(oldKey, newKey)
					file.replace(t, newKey)
					w.until("both to have read it", func() bool { return workers[0].rotated() && workers[1].rotated() })
					w.publish(p.events[800:1400]) // there is work for both left, however fast they were
					w.until("both to use the new key", func() bool { return logs[0].count(newKey) > 2 && logs[1].count(newKey) > 2 })
					// The first one was made alone, so what carried the old key has arrived.
					w.stripe.RevokeKey(oldKey)
					w.publish(p.events[1400:])
					w.until("everything to be acked", w.settled)
				}
				w.auditRotation(p, workers, revokedFirst)
			})
		}
	}
}

func (p *worker) rotated() bool {
	return strings.Contains(p.log.String(), "the Stripe key has changed")
}

func owned(p *worker) float64 { return p.metric("meterworker_partitions_owned") }

// quiet reports whether the worker has halted and nothing is under way any more.
func quiet(p *worker) bool { return p.halted("breaker") && p.metric("meterworker_in_flight") == 0 }

// auditRotation wants the books to balance, no dead letter, and no more halts than the
// order of things makes necessary.
func (w *world) auditRotation(p plan, workers []*worker, revokedFirst bool) {
	w.t.Helper()
	w.audit(p.events)
	if n := w.letterCount(); n != 0 {
		w.t.Errorf("%d dead letters, want none", n)
	}
	want := 0
	if revokedFirst {
		want = 1
	}
	for i, worker := range workers {
		log := worker.log.String()
		if n := strings.Count(log, `"msg":"halted`); n != want {
			w.t.Errorf("worker %d halted %d times, want %d", i, n, want)
		}
		if n := strings.Count(log, "the Stripe key has changed"); n != 1 {
			w.t.Errorf("worker %d took %d new keys, want 1", i, n)
		}
		if strings.Contains(log, oldKey) || strings.Contains(log, newKey) {
			w.t.Errorf("the log of worker %d holds a key", i)
		}
	}
	if refused := w.stripe.Totals().ByStatus[http.StatusUnauthorized]; (refused > 0) != revokedFirst {
		w.t.Errorf("%d requests were answered 401", refused)
	}
}

// The old key is revoked at the very moment at which the new one is written: the worker
// finds it refused, halts, and goes on as soon as it has read the file.
func TestRevokedAsTheNewKeyIsWritten(t *testing.T) {
	w := newWorld(t, simulator.Config{Keys: []string{oldKey}, Latency: 20 * time.Millisecond})
	file := likeKubernetes(t, oldKey)
	log := w.keyLog()
	only := w.start("STRIPE_API_KEY=", "STRIPE_API_KEY_FILE="+file.path, "STRIPE_API_BASE="+log.URL)
	w.until("readiness", only.ready)
	p := traffic(t, 1500, 300, 3)
	w.publish(p.events[:800])
	w.until("some of it", func() bool { return w.stripe.Totals().Counted >= 200 })
	file.replace(t, newKey)
	w.stripe.SetKeys(newKey)
	w.publish(p.events[800:])
	w.until("everything to be acked", w.settled)
	w.auditRotation(p, []*worker{only}, true)
}
