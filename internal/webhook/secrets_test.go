package webhook

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseSecrets(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"one", "whsec_abc\n", []string{"whsec_abc"}},
		{"two", "whsec_old\nwhsec_new", []string{"whsec_old", "whsec_new"}},
		{"Windows lines, blank lines and a byte order mark", "\uFEFF whsec_a+b/c= \r\n\r\nwhsec_d\r\n", []string{"whsec_a+b/c=", "whsec_d"}},
		{"empty", "", nil},
		{"blank", " \n\t\n", nil},
		{"five", strings.Repeat("whsec_abc\n", 5), nil},
		{"an API key", "sk_live_abc", nil},
		{"one of two is none", "whsec_abc\nsk_live_abc", nil},
		{"nothing behind the prefix", "whsec_", nil},
		{"NUL in it", "whsec_a\x00b", nil},
		{"too long", "whsec_" + strings.Repeat("x", 257), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseSecrets(c.text)
			if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "abc") || !strings.Contains(err.Error(), "; ") && c.name != "five") {
				t.Errorf("error %q: it names the secret, or no remedy", err)
			}
		})
	}
}

func TestSecretFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "absent"): "no such file", dir: "not a regular file", pipe: "not a regular file",
		write("empty", ""): "whsec_", write("large", strings.Repeat("whsec_abc\n", 500)): "4 KiB", write("key", "sk_live_abc"): "whsec_",
	} {
		_, err := NewSecretFile(path)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "live") {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
}

// TestRotation: what the file holds is in force within seconds; what is no secret is told once, and the old
// ones stay.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "secret")
		write := func(content string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * time.Second)
			synctest.Wait()
		}
		write("whsec_old\n")
		f, err := NewSecretFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var changes int
		var problems []error
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx, func() { changes++ }, func(err error) { problems = append(problems, err) })
		}()
		for _, step := range []struct {
			content  string
			want     []string
			changes  int
			problems int
		}{
			{"whsec_old\n", []string{"whsec_old"}, 0, 0},
			{"whsec_old\nwhsec_new\n", []string{"whsec_old", "whsec_new"}, 1, 0},
			{"", []string{"whsec_old", "whsec_new"}, 1, 1},
			{"nonsense", []string{"whsec_old", "whsec_new"}, 1, 2},
			{"whsec_new", []string{"whsec_new"}, 2, 2},
		} {
			write(step.content)
			if !slices.Equal(f.Current(), step.want) || changes != step.changes || len(problems) != step.problems {
				t.Errorf("%q: in force %q, %d changes, problems %v", step.content, f.Current(), changes, problems)
			}
		}
		if err := errors.Join(problems...); strings.Contains(err.Error(), "nonsense") {
			t.Errorf("the log would show what is in the file: %v", err)
		}
		cancel()
		<-done
	})
}
