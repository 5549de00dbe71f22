package k8sapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// startBound is ample for etcd and the API server on a busy machine: seconds are usual.
const startBound = 2 * time.Minute

// startServer runs etcd and an API server on free ports of loopback until the test
// ends, and returns an administrator's way in.
func startServer(t *testing.T) *rest.Config {
	t.Helper()
	keepLog(t)
	etcd := startEtcd(t)
	ctx, cancel := context.WithCancel(context.Background())
	server := prepare(ctx, t, etcd)
	prepared, err := server.PrepareRun()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- prepared.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the API server ended with %v", err)
		}
	})
	return rest.CopyConfig(server.GenericAPIServer.LoopbackClientConfig)
}

// keepLog keeps what the server logs, for a test that fails.
func keepLog(t *testing.T) {
	t.Helper()
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	if err := flags.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL"}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	klog.SetOutput(&log)
	t.Cleanup(func() { // the last one, when nobody logs any more
		klog.Flush()
		if t.Failed() {
			t.Logf("the API server:\n%s", &log)
		}
	})
}

func startEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel = t.TempDir(), "fatal"
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = free, free
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = free, free
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		t.Fatal(err)
	case <-time.After(startBound):
		t.Fatal("etcd is not ready")
	}
	return "http://" + etcd.Clients[0].Addr().String()
}

// prepare configures the API server as a cluster's is, but for what needs other machines.
func prepare(ctx context.Context, t *testing.T, etcd string) *aggregator.APIAggregator {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	chosen := options.NewServerRunOptions()
	chosen.SecureServing.Listener = listener
	chosen.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	parse(t, chosen, etcd)
	completed, err := chosen.Complete(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if problems := completed.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		t.Fatal(err)
	}
	complete, err := config.Complete()
	if err != nil {
		t.Fatal(err)
	}
	server, err := app.CreateServerChain(complete)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func parse(t *testing.T, chosen *options.ServerRunOptions, etcd string) {
	t.Helper()
	key := accountKey(t)
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range chosen.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	err := flags.Parse([]string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1",
		"--cert-dir=" + t.TempDir(),
		"--service-cluster-ip-range=10.0.0.0/16",
		"--service-account-issuer=https://kubernetes.invalid",
		"--service-account-key-file=" + key,
		"--service-account-signing-key-file=" + key,
		"--authorization-mode=RBAC",
		"--endpoint-reconciler-type=none", // loopback is no address that a Service may lead to
		"--allow-privileged=true",         // so that it is pod security that refuses, and not this flag
	})
	if err != nil {
		t.Fatal(err)
	}
}

// accountKey is what the API server signs the tokens of accounts with.
func accountKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "accounts.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
