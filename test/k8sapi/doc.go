// Package k8sapi holds the manifests of deploy/k8s against a real API server: etcd and
// kube-apiserver in this process, with the custom resources of the operators' own
// releases and the pod security that the overlays' namespaces ask for.
//
// What the API server accepts here without an error or a warning, a cluster of that version
// accepts; that it refuses anything at all, a table of mistakes shows. Nothing runs: there is
// no scheduler, no kubelet and no controller.
package k8sapi
