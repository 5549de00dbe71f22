package sender

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileAtStart(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("good"), testKey+"\n")
	write(t, path("empty"), "")
	write(t, path("publishable"), "pk_test_51abc")
	write(t, path("limit"), strings.Repeat("x", maxKeyFile))
	write(t, path("large"), strings.Repeat("x", maxKeyFile+1))
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"link": "good", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(to, path(from)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"good": "", "link": "", "missing": "no such file", "empty": "empty", "publishable": "publishable key", ".": "not a regular file",
		"pipe": "not a regular file", "limit": "at most 255", "large": "more than 4 KiB", "dangling": "no such file",
		"loop": "too many levels", "good/below": "not a directory",
	} {
		k, err := NewKeyFile(KeyFileConfig{Path: path(name)})
		switch {
		case want == "" && (err != nil || k.Current().Reveal() != testKey):
			t.Errorf("%s: %v", name, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path(name))):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := NewKeyFile(KeyFileConfig{Path: path("good"), Interval: -1}); err == nil {
		t.Error("a negative interval was accepted")
	}
}

// watched runs change once a second on a key file and returns what was reported.
func watched(t *testing.T, path string, steps ...func()) (keys, problems []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k, err := NewKeyFile(KeyFileConfig{
			Path: path, Interval: time.Second,
			OnChange: func(key Key) { keys = append(keys, key.Reveal()) },
			OnError:  func(err error) { problems = append(problems, err.Error()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.Run(ctx)
		<-time.After(500 * time.Millisecond) // between the looks
		for _, step := range steps {
			step()
			<-time.After(time.Second)
		}
		cancel()
		synctest.Wait()
		if want := append([]string{testKey}, keys...); k.Current().Reveal() != want[len(want)-1] {
			t.Errorf("in force is another key than the last reported")
		}
	})
	return keys, problems
}

func nothing() {}

func TestKeyFileRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, testKey)
	keys, problems := watched(t, path,
		func() { write(t, path, testKey+"\n") }, nothing, // the same key
		func() { write(t, path, "rk_test_2\n") }, nothing, nothing, nothing,
		func() { write(t, path, "sk_test_half") }, // being written
		func() { write(t, path, "sk_test_half_and_rest") }, nothing,
	)
	if !slices.Equal(keys, []string{"rk_test_2", "sk_test_half_and_rest"}) || len(problems) != 0 {
		t.Errorf("keys %q, problems %q", keys, problems)
	}
}

func TestKeyFileKeepsTheOldKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, testKey)
	keys, problems := watched(t, path,
		func() { write(t, path, "") }, // for a moment: not worth a word
		func() { write(t, path, testKey) }, nothing,
		func() { write(t, path, "whsec_51abc") }, nothing, nothing, nothing,
		func() { write(t, path, "sk_live_51abc") }, nothing, nothing,
		func() { write(t, path, testKey) }, nothing,
		func() { write(t, path, "sk_live_51abc") }, nothing,
		func() { _ = os.Remove(path) }, nothing,
		func() { _ = syscall.Mkfifo(path, 0o600) }, nothing,
		func() { _ = os.Remove(path); write(t, path, "sk_test_new") }, nothing,
	)
	want := []string{"webhook signing secret", "a live key has replaced a test key", "a live key has replaced a test key", "no such file", "not a regular file"}
	if len(problems) != len(want) || !slices.Equal(keys, []string{"sk_test_new"}) {
		t.Fatalf("keys %q, problems %q", keys, problems)
	}
	for i, problem := range problems {
		if !strings.Contains(problem, want[i]) || strings.Contains(problem, "51abc") {
			t.Errorf("problem %d: %q, want %q", i, problem, want[i])
		}
	}
}

// Kubernetes mounts a secret as key -> ..data/key and ..data -> ..<time>, and
// swaps ..data by a rename.
func TestKeyFileFollowsKubernetes(t *testing.T) {
	dir := t.TempDir()
	mount := func(version, key string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "key"), key)
		if err := os.Symlink(version, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("..1", testKey)
	path := filepath.Join(dir, "key")
	if err := os.Symlink("..data/key", path); err != nil {
		t.Fatal(err)
	}
	keys, problems := watched(t, path,
		func() { mount("..2", "sk_test_two") }, nothing,
		func() { _ = os.RemoveAll(filepath.Join(dir, "..1")) }, nothing,
		func() { mount("..3", "sk_test_three") }, nothing,
	)
	if !slices.Equal(keys, []string{"sk_test_two", "sk_test_three"}) || len(problems) != 0 {
		t.Errorf("keys %q, problems %q", keys, problems)
	}
}
