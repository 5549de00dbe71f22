package examples

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// standIn is the `nats` program, as far as docs/publishing.md uses it: one request with
// headers K:V, and its answer as it came. Anything else is an error.
func standIn(args []string) int {
	message, err := requestOf(args)
	if err == nil {
		err = request(message)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in for nats:", err)
		return 2
	}
	return 0
}

func requestOf(args []string) (*nats.Msg, error) {
	if len(args) < 3 || args[0] != "request" {
		return nil, fmt.Errorf("%q is not: request SUBJECT BODY", args)
	}
	message := &nats.Msg{Subject: args[1], Data: []byte(args[2]), Header: nats.Header{}}
	for rest := args[3:]; len(rest) > 0; {
		switch {
		case rest[0] == "--raw":
			rest = rest[1:]
		case rest[0] == "--header" && len(rest) > 1:
			key, value, found := strings.Cut(rest[1], ":")
			if !found {
				return nil, fmt.Errorf("the header %q is not K:V", rest[1])
			}
			message.Header.Set(key, value)
			rest = rest[2:]
		default:
			return nil, fmt.Errorf("the flag %q is not known", rest[0])
		}
	}
	return message, nil
}

func request(message *nats.Msg) error {
	conn, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := conn.RequestMsg(message, 5*time.Second)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, string(answer.Data))
	return err
}
