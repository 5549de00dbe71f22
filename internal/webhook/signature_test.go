package webhook

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The sum is what openssl makes of it:
// printf '1760612775.{}' | openssl dgst -sha256 -hmac whsec_first
func TestSignIsStripesScheme(t *testing.T) {
	const want = "c3cf4876b44776d9613a20ce0703abac14e52ddcfd58e99b348f79e2fa210f4c"
	if got := hex.EncodeToString(Sign(secret, "1760612775", []byte("{}"))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1760612775, 0)
	body := []byte(`{"id":"evt_1"}`)
	good := signed(body, now, secret)
	stamp, sum, _ := strings.Cut(good, ",v1=")
	zeros := strings.Repeat("0", 64)
	for _, c := range []struct {
		name, header string
		secrets      []string
		at           time.Time
		right        bool
	}{
		{"right", good, []string{secret}, now, true},
		{"second of two secrets", good, []string{"whsec_new", secret}, now, true},
		{"signed with two secrets, one of them ours", signed(body, now, "whsec_new", secret), []string{secret}, now, true},
		{"spaces between", stamp + ", v1=" + sum, []string{secret}, now, true},
		{"upper case hex", stamp + ",v1=" + strings.ToUpper(sum), []string{secret}, now, true},
		{"other schemes beside it", stamp + ",v0=" + zeros + ",v1=" + sum + ",v2=x", []string{secret}, now, true},
		{"wrong v1 before it", stamp + ",v1=" + zeros + ",v1=" + sum, []string{secret}, now, true},
		{"odd hex before it", stamp + ",v1=abc,v1=" + sum, []string{secret}, now, true},
		{"eighth v1", stamp + strings.Repeat(",v1="+zeros, maxSignatures-1) + ",v1=" + sum, []string{secret}, now, true},
		{"ninth v1", stamp + strings.Repeat(",v1="+zeros, maxSignatures) + ",v1=" + sum, []string{secret}, now, false},
		{"300 s old", good, []string{secret}, now.Add(300 * time.Second), true},
		{"301 s old", good, []string{secret}, now.Add(301 * time.Second), false},
		{"300 s ahead", good, []string{secret}, now.Add(-300 * time.Second), true},
		{"301 s ahead", good, []string{secret}, now.Add(-301 * time.Second), false},
		{"an hour ahead", good, []string{secret}, now.Add(-time.Hour), false},
		{"no header", "", []string{secret}, now, false},
		{"t only", stamp, []string{secret}, now, false},
		{"v1 only", "v1=" + sum, []string{secret}, now, false},
		{"t twice", stamp + "," + good, []string{secret}, now, false},
		{"t empty", "t=,v1=" + sum, []string{secret}, now, false},
		{"t with a sign", "t=+" + stamp[2:] + ",v1=" + sum, []string{secret}, now, false},
		{"t no number", "t=now,v1=" + sum, []string{secret}, now, false},
		{"t beyond 64 bits", "t=99999999999999999999,v1=" + sum, []string{secret}, now, false},
		{"t at the end of 64 bits", "t=9223372036854775807,v1=" + sum, []string{secret}, now, false},
		{"other t than signed", "t=1760612776,v1=" + sum, []string{secret}, now, false},
		{"odd hex", stamp + ",v1=" + sum[1:], []string{secret}, now, false},
		{"no hex", stamp + ",v1=" + strings.Repeat("x", 64), []string{secret}, now, false},
		{"cut hex", stamp + ",v1=" + sum[:62], []string{secret}, now, false},
		{"only v0", stamp + ",v0=" + sum, []string{secret}, now, false},
		{"another secret", good, []string{"whsec_other"}, now, false},
		{"no secret", good, nil, now, false},
		{"empty secret, signed with none", signed(body, now, ""), []string{secret}, now, false},
		{"100,000 v1", stamp + strings.Repeat(",v1="+sum, 100_000), []string{secret}, now, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := verify(c.header, body, c.secrets, c.at); (err == nil) != c.right {
				t.Errorf("%v, want it taken: %v", err, c.right)
			}
		})
	}
	for name, other := range map[string]string{
		"another body": `{"id":"evt_2"}`, "the same, written anew": `{"id": "evt_1"}`, "empty": "", "longer": `{"id":"evt_1"} `,
	} {
		if verify(good, []byte(other), []string{secret}, now) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Whatever the header says: it is taken only where one of its first v1 is the sum of
// the very body under its own time.
func FuzzSignature(f *testing.F) {
	now := time.Unix(1760612775, 0)
	body := []byte(`{"id":"evt_1"}`)
	f.Add(signed(body, now, secret), body)
	f.Add("t=1760612775", body)
	f.Add("t=1,v1=00,v1=zz,=,,,v1", []byte(nil))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if verify(header, body, []string{secret}, now) != nil {
			return
		}
		s, err := parseSignature(header)
		if err != nil {
			t.Fatal("taken and not readable")
		}
		seconds, err := strconv.ParseInt(s.stamp, 10, 64)
		if err != nil || seconds < now.Unix()-300 || seconds > now.Unix()+300 {
			t.Fatalf("taken with time %q", s.stamp)
		}
		if !strings.Contains(strings.ToLower(header), hex.EncodeToString(Sign(secret, s.stamp, body))) {
			t.Fatal("taken without the right sum")
		}
	})
}
