package main

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// Profiles are on their own address only, and end with the worker.
func TestProfiles(t *testing.T) {
	w := startTraced(t, environment{"METERWORKER_PPROF_ADDR": "127.0.0.1:0"})
	within(t, 30*time.Second, "the address of the profiles", func() bool { return w.logs.FilterMessage("profiles").Len() == 1 })
	at := w.logs.FilterMessage("profiles").All()[0].ContextMap()["url"].(string)
	for path, want := range map[string]int{"": 200, "goroutine?debug=1": 200, "heap": 200, "cmdline": 200, "../../livez": 404, "../../metrics": 404} {
		if code, _ := get(t, at+path); code != want {
			t.Errorf("%s%s answers %d, want %d", at, path, code, want)
		}
	}
	admin := "http://" + w.daemon.admin.Addr()
	if code, _ := get(t, admin+"/debug/pprof/"); code != 404 {
		t.Errorf("the admin address answers %d for profiles, want 404", code)
	}
	w.stop()
	if response, err := http.Get(at); err == nil {
		_ = response.Body.Close()
		t.Error("profiles are served after the end")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
