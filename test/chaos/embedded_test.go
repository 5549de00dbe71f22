package chaos

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/meterworker/meterworker/internal/embedded"
)

// roleVariable makes this test binary play another part than that of the tests: it runs
// the embedded server, exactly as it is configured for users, on the folder that the
// variable names. Only `meterworker run` could do that otherwise, on a fixed port.
const roleVariable = "METERWORKER_CHAOS_EMBEDDED"

// play serves until it is told to stop.
func play(folder string) int {
	server, err := embedded.Start(context.Background(), embedded.Config{StoreDir: folder, Port: -1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening on", server.ClientURL())
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, os.Interrupt)
	<-told
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
