package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

const (
	// tolerance is how far a signature's time may be off, to either side: Stripe's own five
	// minutes, and no future beyond it either.
	tolerance = 300 * time.Second

	// maxSignatures bounds the v1 entries that are compared; Stripe sends one for each secret
	// in force, which is two during a rotation.
	maxSignatures = 8

	// maxSignatureHeader bounds the header in bytes: a time and maxSignatures take 700.
	maxSignatureHeader = 4 << 10
)

// errSignature is all that anybody learns of a wrong signature.
var errSignature = errors.New("signature refused")

// signature is what a Stripe-Signature header says.
type signature struct {
	stamp string // the seconds, as they were signed
	at    time.Time
	sums  [][]byte
}

// parseSignature reads t=…,v1=…[,v1=…]; other schemes are passed over.
func parseSignature(header string) (signature, error) {
	if header == "" || len(header) > maxSignatureHeader {
		return signature{}, errSignature
	}
	var s signature
	for part := range strings.SplitSeq(header, ",") {
		scheme, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch scheme {
		case "t":
			if s.stamp != "" {
				return signature{}, errSignature
			}
			s.stamp = value
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil && len(sum) == sha256.Size && len(s.sums) < maxSignatures {
				s.sums = append(s.sums, sum)
			}
		}
	}
	seconds, err := strconv.ParseInt(s.stamp, 10, 64)
	// From some 292 billion years on, times do not compare any more.
	if err != nil || seconds < 0 || seconds > 1<<40 || len(s.sums) == 0 {
		return signature{}, errSignature
	}
	s.at = time.Unix(seconds, 0)
	return s, nil
}

// verify holds the header against the body and the secrets in force. It compares in
// constant time, and all of them, so that neither the first wrong byte nor which secret was
// right can be measured.
func verify(header string, body []byte, secrets []string, now time.Time) error {
	s, err := parseSignature(header)
	if err != nil {
		return err
	}
	right := false
	for _, secret := range secrets {
		sum := Sign(secret, s.stamp, body)
		for _, candidate := range s.sums {
			if hmac.Equal(sum, candidate) {
				right = true
			}
		}
	}
	if off := now.Sub(s.at); !right || off > tolerance || off < -tolerance {
		return errSignature
	}
	return nil
}

// Sign is Stripe's scheme v1: HMAC-SHA256, keyed with the whole secret, over the time as it
// stands in the header, a dot, and the body.
func Sign(secret, stamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(stamp + ".")) // a hash takes everything
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}
