package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/meterworker/meterworker/internal/delivery"
)

// Every status of the stream has its class, and the same one as v1's but for what only
// the stream says: 200 names no event, and a refusal of several is about one of them.
func TestEveryStatusOfTheStream(t *testing.T) {
	for status := 100; status <= 999; status++ {
		for _, body := range []string{errorBody("some_code", "Some words.", "invalid_request_error"), "<html>", ""} {
			o := answered(status, body)
			for _, alone := range []bool{true, false} {
				v := judgeStream(o, alone)
				want := classify(o).Class
				if v.answer.Class != want {
					t.Errorf("%d %q: %v, want %v", status, body, v.answer.Class, want)
				}
				if v.event != (want == delivery.Refused) {
					t.Errorf("%d %q is about an event: %v", status, body, v.event)
				}
				if v.session != (status == http.StatusUnauthorized && strings.Contains(body, "some_code")) {
					t.Errorf("%d %q is about the session: %v", status, body, v.session)
				}
			}
		}
	}
}

func TestAnswersOfTheStream(t *testing.T) {
	expired := errorBody(expiredCode, "Over.", "")
	for _, c := range []struct {
		name    string
		o       observation
		alone   bool
		want    delivery.Class
		session bool
	}{
		{"{}", answered(200, "{}"), false, delivery.Accepted, false},
		{"{} and white space", answered(200, " {}\n"), false, delivery.Accepted, false},
		{"an object of more", answered(200, `{"object":"x"}`), true, delivery.Accepted, false},
		{"an error", answered(200, errorBody("x", "y", "z")), true, delivery.Unexpected, false},
		{"null", answered(200, "null"), true, delivery.Unexpected, false},
		{"two objects", answered(200, "{}{}"), true, delivery.Unexpected, false},
		{"nothing", answered(200, ""), true, delivery.Unexpected, false},
		{"a list", answered(200, "[]"), true, delivery.Unexpected, false},
		{"test mode", answered(200, `{"livemode":true}`), true, delivery.ForeignReply, false}, // answered is of test mode
		{"expired, 401", answered(401, expired), false, delivery.NotSent, true},
		{"expired, 400", answered(400, expired), true, delivery.NotSent, true},
		{"expired, 500", answered(500, expired), true, delivery.ServerFault, false},
		{"another token, 401", answered(401, errorBody("invalid_authentication_token", "", "")), false, delivery.SetupFault, true},
		{"a revoked key", answered(401, errorBody("api_key_expired", "", "")), false, delivery.SetupFault, false},
		{"401 of a proxy", answered(401, "<html>"), false, delivery.SetupFault, false},
		{"duplicate alone", answered(400, errorBody("duplicate_meter_event", "", "")), true, delivery.Duplicate, false},
		{"duplicate of another", answered(400, errorBody("", "An event already exists with identifier x.", "")), true, delivery.Unexpected, false},
		{"duplicate among others", answered(400, errorBody("duplicate_meter_event", "", "")), false, delivery.Refused, false},
		{"too large", answered(413, errorBody("", "Too large.", "")), false, delivery.Refused, false},
		{"cut", observation{end: endCut}, false, delivery.NoAnswer, false},
		{"not sent", observation{end: endUnsent}, false, delivery.NotSent, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judgeStream(c.o, c.alone)
			if v.answer.Class != c.want || v.session != c.session {
				t.Errorf("%+v, want %v, session %v", v, c.want, c.session)
			}
		})
	}
}

// Whatever is observed has one meaning, always the same, and is a delivery only with a 200.
func TestStreamsClassifierIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, alone := drawObservation(t), rapid.Bool().Draw(t, "alone")
		v := judgeStream(o, alone)
		checkAnswer(t, v.answer)
		if again := judgeStream(o, alone); again != v {
			t.Fatalf("not deterministic: %+v, %+v", v, again)
		}
		body := bytes.TrimSpace(o.body)
		if v.answer.Class == delivery.Accepted && (o.end != endAnswered || o.status != http.StatusOK || o.oversize || !json.Valid(body)) {
			t.Fatalf("accepted: %+v", o)
		}
		if v.answer.Class == delivery.Duplicate && !alone {
			t.Fatalf("a duplicate among others: %+v", o)
		}
		if v.event && (o.status/100 != 4 || o.reply().Error == nil) {
			t.Fatalf("an event is at fault: %+v", o)
		}
	})
}

// FuzzStreamReply answers a batch, and the request for its session, with any bytes.
func FuzzStreamReply(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\n"
	const session = ok + "Content-Length: 50\r\n\r\n" + `{"authentication_token":"token-1","livemode":true}`
	for _, reply := range []string{
		"", "HTTP/1.1 2", ok + "Content-Length: 2\r\n\r\n{}", ok + "Content-Length: 9\r\n\r\n{}", ok + "\r\n<html>", "HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 401 X\r\n\r\n" + errorBody(expiredCode, "", ""), "HTTP/1.1 400 X\r\n\r\n" + errorBody("parameter_invalid", liveKey, ""),
		"HTTP/1.1 429 X\r\nRetry-After: 9\r\n\r\n", "HTTP/1.1 999 X\r\n\r\n", "HTTP/1.1 308 X\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
	} {
		f.Add([]byte(session), []byte(reply))
		f.Add([]byte(reply), []byte(ok+"Content-Length: 2\r\n\r\n{}"))
	}
	f.Fuzz(func(t *testing.T, opened, reply []byte) {
		var served sync.WaitGroup
		dial := func(_ context.Context, _, address string) (net.Conn, error) {
			near, far := net.Pipe()
			served.Go(func() {
				defer func() { _ = far.Close() }()
				if request(far) == nil {
					return
				}
				if strings.HasSuffix(address, ":1") {
					_, _ = far.Write(opened)
				} else {
					_, _ = far.Write(reply)
				}
			})
			return near, nil
		}
		v, err := NewV2(V2Config{
			Config: Config{
				BaseURL: "http://127.0.0.1:1", Timeout: longEnough, Dial: dial,
				Key: func() string { return liveKey }, Live: func() bool { return true },
			},
			StreamURL: "http://127.0.0.1:2", Permits: &stripeV2{},
		})
		if err != nil {
			t.Fatal(err)
		}
		list := attempts(t, 3)
		for _, a := range together(t, v, list) {
			checkAnswer(t, a)
			if strings.Contains(a.Detail, liveKey) || a.Class == delivery.Accepted && !bytes.Contains(reply, []byte("200")) {
				t.Errorf("%+v after %q and %q", a, opened, reply)
			}
		}
		v.Close()
		served.Wait()
	})
}
