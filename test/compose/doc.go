// Package compose holds docker-compose.yml, what it mounts and the Grafana dashboard
// against what they promise, as Compose itself reads them. It starts nothing:
// test/container does.
package compose
