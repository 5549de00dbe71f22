package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// trustFolder holds nothing but the certificate of the authority, as SSL_CERT_DIR wants it.
	trustFolder = "trust"

	authorityFile = "ca.pem"

	// identityFile holds certificate and private key, so that they never are of two generations.
	identityFile = "simulator.pem"

	certificateLife = 365 * 24 * time.Hour

	// renewBefore is how much of its life a certificate must have left at a start: a
	// simulator that runs for longer is not meant for anything that lasts.
	renewBefore = 30 * 24 * time.Hour
)

// loopbackNames are in every certificate, for health checks and people on the host.
var loopbackNames = []string{"localhost", "127.0.0.1", "::1"}

// simulatorCertificate is the one that lies in dir, or a new one if that is missing, near
// its end, or not good for all hosts. The authority signs once and its key is gone: who
// trusts it trusts this one certificate and nothing that may come later.
func simulatorCertificate(dir string, hosts []string, now time.Time) (tls.Certificate, error) {
	hosts = append(append([]string{}, hosts...), loopbackNames...)
	found, err := readIdentity(dir)
	switch {
	case err == nil && serves(found, dir, hosts, now):
		return found, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoIdentity):
		return tls.Certificate{}, err // not readable is not missing
	}
	authority, identity, err := newIdentity(hosts, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	// The authority first: if this stops half-way, the two do not match and are made again.
	if err := writeDurably(filepath.Join(dir, trustFolder, authorityFile), authority, 0o644); err != nil {
		return tls.Certificate{}, err
	}
	if err := writeDurably(filepath.Join(dir, identityFile), identity, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	return readIdentity(dir)
}

// errNoIdentity says that the file is there and holds no certificate with its key.
var errNoIdentity = errors.New("holds no certificate with its key")

func readIdentity(dir string) (tls.Certificate, error) {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s %w: %w", path, errNoIdentity, err)
	}
	return pair, nil
}

// serves reports whether who trusts the authority in dir would accept the certificate for
// every host, now and for a while.
func serves(pair tls.Certificate, dir string, hosts []string, now time.Time) bool {
	authority, err := os.ReadFile(filepath.Join(dir, trustFolder, authorityFile))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(authority) {
		return false
	}
	for _, host := range hosts {
		for _, at := range []time.Time{now, now.Add(renewBefore)} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: at}); err != nil {
				return false
			}
		}
	}
	return true
}

// newIdentity makes an authority and a certificate that it signs.
func newIdentity(hosts []string, now time.Time) (authority, identity []byte, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ca := certificateTemplate("meterworker simulator CA", now)
	ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero, ca.KeyUsage = true, true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	leaf := certificateTemplate("meterworker simulator", now)
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	identity = append(encodePEM("CERTIFICATE", leafDER), encodePEM("PRIVATE KEY", keyDER)...)
	return encodePEM("CERTIFICATE", caDER), identity, nil
}

// certificateTemplate begins an hour early, for clocks that are behind.
func certificateTemplate(name string, now time.Time) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] &= 0x7f        // positive, as RFC 5280 demands
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
	}
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeDurably replaces the file as a whole, so that nobody reads half of it.
func writeDurably(path string, text []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // other users are to read the authority's certificate
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // once renamed, there is nothing of that name
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
