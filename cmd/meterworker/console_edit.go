package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meterworker/meterworker/internal/audit"
	"github.com/meterworker/meterworker/internal/console"
	"github.com/meterworker/meterworker/internal/deadletter"
	"github.com/meterworker/meterworker/internal/replay"
)

// revised judges an edit against the letter that it was made of.
func revised(l replay.Letter, e console.Edit) (r replay.Revision, body []byte, refusal string) {
	if e.Digest != "" && e.Digest != audit.Digest(l.Body) {
		return r, nil, "the dead letter is another one now; look at it again"
	}
	body = compacted(e.Body)
	if e.Body == "" {
		var err error
		if body, err = assigned(l, e); err != nil {
			return r, nil, err.Error()
		}
	}
	r, refusal = replay.Revise(l, body, replay.Permission{AcceptDoubleBilling: e.Accepted}, time.Now())
	// Of a letter whose identifier another one has, the new identifier is what was wanted.
	if refusal == "" && len(changed(l.Body, body)) == 0 && l.Reason != deadletter.IdentifierConflict {
		refusal = "nothing was changed; to publish it as it is, replay it"
	}
	return r, body, pageWords.Replace(refusal)
}

// assigned is the body with the fields of the form.
func assigned(l replay.Letter, e console.Edit) ([]byte, error) {
	if key, twice := repeatedKey(l.Body); twice {
		return nil, errors.New(noFields(key))
	}
	if len(e.Set)+len(e.Unset) == 0 {
		if l.Reason == deadletter.IdentifierConflict {
			return nil, errors.New("nothing was changed; to publish it as it is, under an identifier of its own, send the whole body")
		}
		return nil, errors.New("nothing was changed; to publish it as it is, replay it")
	}
	set := make([]string, len(e.Set))
	for i, field := range e.Set {
		if strings.Contains(field.Name, "=") { // it would be taken for the end of the name
			return nil, fmt.Errorf("the field %s has a = in its name; edit it in the whole body", field.Name)
		}
		set[i] = field.Name + "=" + field.Value
	}
	return replay.Assign(l.Body, set, e.Unset)
}

// changed is what an edit changes. Of a body with a key twice the fields do not tell: then it
// is the whole of it.
func changed(before, after []byte) []replay.Change {
	changes := replay.Changes(before, after)
	if _, twice := repeatedKey(before); twice && len(changes) == 0 && !bytes.Equal(before, after) {
		return []replay.Change{{Field: "body", From: string(before), To: string(after)}}
	}
	return changes
}

// noFields says why a body is not offered as fields.
func noFields(key string) string {
	return "The key " + strconv.Quote(key) + " stands twice in the body, and a field can only have one value: edit the whole body, and leave the one that is right."
}

// repeatedKey finds a key that stands twice in one object of a JSON text.
func repeatedKey(document []byte) (key string, twice bool) {
	if depth(document) > deepest || !json.Valid(document) {
		return "", false
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber() // some numbers are no float64
	return repeatedIn(decoder)
}

// repeatedIn looks through the next value. The text is valid, and so the tokens come.
func repeatedIn(decoder *json.Decoder) (repeated string, twice bool) {
	token, err := decoder.Token()
	open, nested := token.(json.Delim)
	if err != nil || !nested {
		return "", false
	}
	seen := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			token, _ := decoder.Token()
			key, _ := token.(string)
			if seen[key] {
				return key, true
			}
			seen[key] = true
		}
		if key, found := repeatedIn(decoder); found {
			return key, true
		}
	}
	_, _ = decoder.Token() // the end
	return "", false
}
