package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// stopped is a server that is down.
type stopped struct {
	w     *world
	store string // folder
	start func() // starts it again
}

func (w *world) stopNATS() stopped {
	w.t.Helper()
	store := w.nats.StoreDir()
	_, text, err := net.SplitHostPort(w.nats.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nats.Shutdown()
	w.nats.WaitForShutdown()
	return stopped{w, store, func() {
		w.t.Helper()
		w.nats = startNATS(w.t, filepath.Dir(store), port)
		w.until("the connection", w.conn.IsConnected)
	}}
}

// dir is where the server keeps a stream; "" is the whole store.
func (s stopped) dir(stream string) string {
	if stream == "" {
		return s.store
	}
	return filepath.Join(s.store, "$G", "streams", stream)
}

// copyOf copies the streams; restore puts the copies back.
func (s stopped) copyOf(streams ...string) (restore func()) {
	s.w.t.Helper()
	kept := map[string]string{}
	for _, stream := range streams {
		kept[stream] = filepath.Join(s.w.t.TempDir(), "copy")
		copyDir(s.w.t, s.dir(stream), kept[stream])
	}
	return func() {
		s.w.t.Helper()
		for stream, from := range kept {
			to := s.dir(stream)
			if err := os.RemoveAll(to); err != nil {
				s.w.t.Fatal(err)
			}
			copyDir(s.w.t, from, to)
		}
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
