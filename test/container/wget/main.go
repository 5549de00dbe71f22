// Command wget is as much of wget as the health check of docker-compose.yml needs, for an
// image without a shell: exit code 0 if the address answers 200.
package main

import (
	"context"
	"net/http"
	"os"
	"time"
)

func main() {
	if !answers(os.Args[len(os.Args)-1]) {
		os.Exit(1)
	}
}

func answers(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // the address is the health check's
	if err != nil {
		return false
	}
	response, err := (&http.Client{}).Do(request) //nolint:gosec // as above
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode == http.StatusOK
}
