// Package alerts holds the alerts of deploy/prometheus, the dashboard of deploy/grafana and
// the runbook against each other and against the metrics of the program: every expression
// parses and asks for metrics that exist, every alert has its section, and promtool's tests
// notice when an alert never fires or always does.
package alerts
