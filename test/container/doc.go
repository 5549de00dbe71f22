// Package container runs the image and docker-compose.yml in a real Docker: `make
// test-container`, with Debian's docker.io.
//
//   - Where no Docker answers, a dockerd is started (as root) on folders and a socket of its
//     own, and ended afterwards by its id.
//   - Nothing has to be pulled: the worker's image takes the files of `make image-files`
//     through the Dockerfile's own last stage, and where the NATS image cannot be had, the
//     nats-server of go.mod stands in for it, with a wget of our own for its health check.
//   - Compose is the real one, built from its module: version 2, as users have it.
//   - Published ports are free ones, so that whatever else runs here goes on.
package container
