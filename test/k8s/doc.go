// Package k8s holds the manifests of deploy/k8s against what they promise: every
// overlay and component is rendered offline, every document strictly decoded, custom
// resources against the schemas of the operators' own releases, and the whole against a
// list of policies.
//
// Invariants of the tests: each policy has at least one mutation of the rendered objects
// that it must find, so no policy can pass by looking at nothing; settings are taken
// by the worker itself, and the scaler's query by Prometheus' own engine.
package k8s
