package sender

import (
	"net/http"
	"testing"
	"time"

	"github.com/meterworker/meterworker/internal/delivery"
)

func receiptOf(body string) observation {
	return observation{
		identifier: "req-1", end: endAnswered, at: time.Now(), status: http.StatusOK, body: []byte(body),
		header: http.Header{"Request-Id": {"req_1"}, "Date": {"Sun, 22 Nov 2026 20:00:00 GMT"}},
	}
}

const ordinaryReceipt = `{"object":"billing.meter_event","created":1795348000,"event_name":"api_calls","identifier":"req-1","livemode":false,"payload":{"stripe_customer_id":"cus_1","value":"25"},"timestamp":1795348000}`

// The ordinary answer is judged without encoding/json. What is not quite ordinary is
// left to it: neither may say what the other would not.
func TestPlainReceipts(t *testing.T) {
	for name, test := range map[string]struct {
		body  string
		plain bool
		class delivery.Class
	}{
		"ordinary":                {ordinaryReceipt, true, delivery.Accepted},
		"white space":             {" {\n\t\"identifier\" : \"req-1\" ,\r \"livemode\" : false } ", true, delivery.Accepted},
		"no livemode":             {`{"identifier":"req-1"}`, true, delivery.Accepted},
		"null beside it":          {`{"identifier":"req-1","x":null}`, true, delivery.Accepted},
		"twice the same":          {`{"identifier":"req-2","livemode":true,"identifier":"req-1","livemode":false}`, true, delivery.Accepted},
		"then null":               {`{"identifier":"req-1","identifier":null}`, false, delivery.Unexpected},
		"another identifier":      {`{"identifier":"req-2"}`, false, delivery.ForeignReply},
		"another one, later":      {`{"identifier":"req-1","identifier":"req-2"}`, false, delivery.ForeignReply},
		"another one, in capital": {`{"identifier":"req-1","Identifier":"req-2"}`, false, delivery.ForeignReply},
		"live":                    {`{"identifier":"req-1","livemode":true}`, false, delivery.ForeignReply},
		"live, later":             {`{"identifier":"req-1","livemode":false,"livemode":true}`, false, delivery.ForeignReply},
		"live, in capitals":       {`{"identifier":"req-1","LIVEMODE":true}`, false, delivery.ForeignReply},
		"escaped":                 {`{"identifier":"req\u002d1"}`, false, delivery.Accepted},
		"a list":                  {`{"identifier":"req-1","x":[]}`, false, delivery.Accepted},
		"a fraction":              {`{"identifier":"req-1","x":1.5}`, false, delivery.Accepted},
		"deeply nested":           {`{"identifier":"req-1","x":{"y":{"z":{"a":1}}}}`, false, delivery.Accepted},
		"inside the payload":      {`{"payload":{"identifier":"req-1"}}`, false, delivery.Unexpected},
		"no identifier":           {`{"livemode":false}`, false, delivery.Unexpected},
		"null identifier":         {`{"identifier":null}`, false, delivery.Unexpected},
		"cut short":               {ordinaryReceipt[:len(ordinaryReceipt)-1], false, delivery.Unexpected},
		"more after it":           {ordinaryReceipt + "x", false, delivery.Unexpected},
		"two objects":             {`{"identifier":"req-1"}{}`, false, delivery.Unexpected},
		"a comma at the end":      {`{"identifier":"req-1",}`, false, delivery.Unexpected},
		"a comma at the start":    {`{,"identifier":"req-1"}`, false, delivery.Unexpected},
		"no comma":                {`{"identifier":"req-1" "livemode":false}`, false, delivery.Unexpected},
		"a zero before":           {`{"identifier":"req-1","x":01}`, false, delivery.Unexpected},
		"half a word":             {`{"identifier":"req-1","x":tru}`, false, delivery.Unexpected},
		"empty":                   {``, false, delivery.Unexpected},
	} {
		o := receiptOf(test.body)
		if got := o.accepts(); got != test.plain {
			t.Errorf("%s: taken for the ordinary answer: %v", name, got)
		}
		if got := classify(o).Class; got != test.class {
			t.Errorf("%s: %v, want %v", name, got, test.class)
		}
		if got := o.class(o.reply()); got != test.class {
			t.Errorf("%s: encoding/json says %v, want %v", name, got, test.class)
		}
	}
}

func FuzzPlainReceipts(f *testing.F) {
	f.Add([]byte(ordinaryReceipt))
	f.Add([]byte(`{"identifier":"req-1","Livemode":true}`))
	f.Add([]byte(`{"identifier":"req-1","payload":{"a":{"b":null}},"x":10}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o := receiptOf(string(body))
		if o.accepts() && o.class(o.reply()) != delivery.Accepted {
			t.Errorf("%q is taken for accepted; encoding/json says %v", body, o.class(o.reply()))
		}
	})
}

// Only an answer of 200 that is whole is a receipt.
func TestOnlyWholeAnswersAreReceipts(t *testing.T) {
	for name, change := range map[string]func(*observation){
		"another status": func(o *observation) { o.status = http.StatusCreated },
		"a refusal":      func(o *observation) { o.status = http.StatusBadRequest },
		"cut":            func(o *observation) { o.end = endCut },
		"unsent":         func(o *observation) { o.end = endUnsent },
		"oversize":       func(o *observation) { o.oversize, o.body = true, nil },
		"live mode":      func(o *observation) { o.live = true },
	} {
		o := receiptOf(ordinaryReceipt)
		change(&o)
		if got := classify(o).Class; got == delivery.Accepted {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Classifying the ordinary answer costs no allocation, whatever the machine.
func TestClassifyDoesNotAllocate(t *testing.T) {
	o := receiptOf(ordinaryReceipt)
	allocations := testing.AllocsPerRun(100, func() {
		if classify(o).Class != delivery.Accepted {
			t.Error("not accepted")
		}
	})
	if allocations != 0 {
		t.Errorf("classify allocates %v times, want 0", allocations)
	}
}

func BenchmarkClassify(b *testing.B) {
	for name, o := range map[string]observation{
		"accepted": receiptOf(ordinaryReceipt),
		"refused": {
			identifier: "req-1", end: endAnswered, status: http.StatusBadRequest, header: http.Header{"Request-Id": {"req_1"}},
			body: []byte(`{"error":{"type":"invalid_request_error","code":"meter_event_invalid_value","message":"The value is not a number."}}`),
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if classify(o).Status == 0 {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// The last key is parsed once; what it is rotated to is seen at once, and what is no key
// is refused each time.
func TestTheKeyIsParsedOnce(t *testing.T) {
	var keys parsedKey
	for _, test := range []struct {
		text, want string
		bad        bool
	}{
		{"sk_test_first", "sk_test_first", false},
		{"sk_test_first", "sk_test_first", false},
		{"rk_live_second\n", "rk_live_second", false},
		{"pk_test_other", "", true},
		{"", "", true},
		{"rk_live_second\n", "rk_live_second", false},
		{"sk_test_first", "sk_test_first", false},
	} {
		key, err := keys.of(test.text)
		if (err != nil) != test.bad || key.Reveal() != test.want {
			t.Errorf("%q: %q, %v", test.text, key.Reveal(), err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = keys.of("sk_test_first") }); n != 0 {
		t.Errorf("the same key again allocates %v times", n)
	}
}

// What is left as it is without a closer look holds no secret.
func TestPlainTexts(t *testing.T) {
	for text, want := range map[string]bool{
		"req_1a2b": true, "lock_timeout": false, "": true, "meter_event_no_customer_defined": true,
		"sk_live_x": false, "SK_TEST_x": false, "whsec_x": false, "WHSEC_x": false, "rk_x": false, "\u212a_": false, "a\tb": false,
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if plain(text) && secrets.MatchString(text) {
			t.Errorf("%q holds a secret", text)
		}
	}
}
