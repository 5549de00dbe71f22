package webhook

import (
	"encoding/hex"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec_first"

// signed is the header of a body that was signed at the time given.
func signed(body []byte, at time.Time, secrets ...string) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	header := "t=" + stamp
	for _, s := range secrets {
		header += ",v1=" + hex.EncodeToString(Sign(s, stamp, body))
	}
	return header
}
