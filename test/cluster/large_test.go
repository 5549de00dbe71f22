//go:build chaos

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	fleetSize  = 3
	partitions = 24
)

// Three workers on three servers, and everything that happens to either, again and again.
func TestClusterAtLength(t *testing.T) {
	began := time.Now()
	w := newWorld(t, size{nodes: clusterSize, workers: fleetSize, partitions: partitions, rate: 300})
	w.startFleet(partitions)
	w.traffic.flow(*load)
	w.grown(*load)
	w.keepLogs()
	var faults []fault
	for round := range *rounds {
		for _, trouble := range troubles {
			if t.Failed() || !strings.Contains(trouble.name, *only) {
				continue
			}
			t.Logf("%s, round %d, %d events", trouble.name, round+1, w.traffic.stored())
			faults = append(faults, trouble.play(w, round)...)
		}
	}
	leave(t, "cluster", w.verdict(began, faults))
}

// troubles are what happens in a round, one after the other.
var troubles = []struct {
	name string
	play func(w *world, round int) []fault
}{
	{"step-downs", stepDowns},
	{"servers killed", serversKilled},
	{"meta leader killed", metaLeaderKilled},
	{"server away for long", serverAwayForLong},
	{"server stopped", serverStopped},
	{"server isolated", serverIsolated},
	{"server frozen", serverFrozen},
	{"no quorum", noQuorum},
	{"worker killed", workerKilled},
	{"worker parted", workerParted},
	{"both killed", bothKilled},
}

// keepLogs leaves what the processes print beside the evidence.
func (w *world) keepLogs() {
	w.t.Helper()
	keep := func(name string, log *record) {
		w.t.Cleanup(func() {
			if err := os.WriteFile(filepath.Join(*evidenceDir, name+".log"), []byte(log.String()), 0o600); err != nil {
				w.t.Error(err)
			}
		})
	}
	if err := os.MkdirAll(*evidenceDir, 0o750); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range w.workers {
		keep(fmt.Sprintf("worker-%d", p.number), p.log)
	}
	for _, n := range w.all {
		keep(n.name, n.log)
	}
}

func stepDowns(w *world, _ int) []fault {
	var faults []fault
	for range 3 {
		faults = append(faults, w.strike("step-downs", "all streams and consumers", w.stepDownAll))
	}
	for _, stream := range streams {
		faults = append(faults, w.strike("step-down", stream, func() {
			leader := w.leaderOf(stream).name
			until(w.t, stream+" to step down", func() bool { return w.client.stepDown(stream) })
			w.elected(stream, leader)
		}))
	}
	return faults
}

func serversKilled(w *world, _ int) []fault {
	var faults []fault
	for i, n := range w.all {
		faults = append(faults, w.strike("server killed, back at once", n.name, func() {
			w.all[i].kill()
			w.all[i].back()
		}))
	}
	for _, stream := range streams[:3] {
		faults = append(faults, w.strike("leader killed, then back", stream, func() {
			leader := w.leaderOf(stream)
			leader.kill()
			w.elected(stream, leader.name)
			leader.back()
		}))
	}
	return faults
}

func metaLeaderKilled(w *world, _ int) []fault {
	n := w.all[w.metaLeader(w.t)]
	return []fault{w.strike("meta leader killed", n.name, func() {
		n.kill()
		w.metaLeader(w.t)
		n.back()
	})}
}

// serverAwayForLong comes back with an old store, which catches up.
func serverAwayForLong(w *world, round int) []fault {
	n := w.all[round%clusterSize]
	return []fault{
		w.strike("server killed, stays away", n.name, func() { n.kill(); lasts(*outage) }),
		w.strike("server back with an old store", n.name, n.back),
	}
}

func serverStopped(w *world, round int) []fault {
	n := w.all[(round+1)%clusterSize]
	faults := []fault{w.strike("server ended with SIGTERM", n.name, func() {
		n.terminate()
		n.back()
	})}
	if round > 0 {
		return faults
	}
	return append(faults, w.strike("server ended as a lame duck", n.name, func() {
		n.lameDuck()
		n.back()
	}))
}

// serverIsolated: the leader of USAGE and its clients are on the side that has no quorum.
func serverIsolated(w *world, _ int) []fault {
	leader := w.leaderOf("USAGE")
	return []fault{w.strike("leader parted from its peers", leader.name, func() {
		w.isolate(w.named(leader.name))
		lasts(*outage)
		w.heal(w.t, w.named(leader.name))
	})}
}

func serverFrozen(w *world, _ int) []fault {
	leader := w.leaderOf("USAGE_JOURNAL")
	return []fault{w.strike("leader frozen", leader.name, func() {
		leader.signal(syscall.SIGSTOP)
		lasts(*outage)
		leader.signal(syscall.SIGCONT)
	})}
}

// noQuorum: with two servers gone nothing is sent and nobody is ready; then all goes on.
func noQuorum(w *world, round int) []fault {
	leader := w.leaderOf("USAGE")
	gone := []*node{leader, w.all[(w.named(leader.name)+1+round%2)%clusterSize]}
	return []fault{w.strike("no quorum", gone[0].name+" and "+gone[1].name, func() {
		for _, n := range gone {
			n.kill()
		}
		w.noneReady()
		sent := w.stripe.sent()
		lasts(*outage)
		if now := w.stripe.sent(); now != sent {
			w.t.Errorf("%d requests without a quorum", now-sent)
		}
		for _, n := range gone {
			n.start()
		}
		for _, n := range gone {
			until(w.t, n.name+" to be back", n.healthy)
		}
		w.allReady()
	})}
}

// noneReady waits until every worker says that it is not.
func (w *world) noneReady() {
	w.t.Helper()
	took := until(w.t, "no worker to be ready", func() bool {
		for _, p := range w.workers {
			if p.ready() {
				return false
			}
		}
		return true
	})
	_, body := w.workers[0].get("/readyz")
	w.t.Logf("after %.1f s without a quorum nobody is ready: %s", took.Seconds(), body)
}

func (w *world) allReady() {
	w.t.Helper()
	until(w.t, "every worker to be ready", func() bool {
		for _, p := range w.workers {
			if !p.ready() {
				return false
			}
		}
		return true
	})
}

func workerKilled(w *world, round int) []fault {
	var faults []fault
	for i := range fleetSize {
		p := w.workers[(round+i)%fleetSize]
		faults = append(faults, w.strike("worker killed", fmt.Sprint(p.number), func() {
			p.kill()
			took := w.shared(partitions)
			w.t.Logf("the others own all %d partitions after %.1f s", partitions, took.Seconds())
			p.start()
			w.shared(partitions)
		}))
	}
	return faults
}

func workerParted(w *world, round int) []fault {
	p := w.workers[round%fleetSize]
	return []fault{w.strike("worker parted from NATS", fmt.Sprint(p.number), func() {
		p.part()
		lasts(*outage)
		p.heal()
		w.shared(partitions)
	})}
}

// bothKilled: a server and a worker at once, which are one machine to many.
func bothKilled(w *world, round int) []fault {
	n, p := w.all[(round+2)%clusterSize], w.workers[(round+1)%fleetSize]
	return []fault{w.strike("server and worker killed", fmt.Sprintf("%s and %d", n.name, p.number), func() {
		n.kill()
		p.kill()
		w.shared(partitions)
		n.back()
		p.start()
		w.shared(partitions)
	})}
}

// When the right copy is put back, after an old one, the workers go on by themselves, and what
// they noticed is forgotten.
func TestTheRightCopyComesBack(t *testing.T) {
	w := newWorld(t, size{nodes: clusterSize, workers: 1, partitions: 3, rate: 200})
	w.startFleet(3)
	w.some(30)
	old := w.copied()
	w.some(30)
	right := w.copied()
	w.putBack(old)
	w.halts("an old copy was put back")
	sent := w.stripe.sent()
	w.putBack(right)
	until(t, "the worker to go on", w.workers[0].ready)
	until(t, "the halt to be forgotten", func() bool { return len(w.client.halts()) == 0 })
	w.some(10)
	if now := w.stripe.sent(); now != sent+10 {
		t.Errorf("%d requests for 10 events, after the right copy was put back", now-sent)
	}
}
