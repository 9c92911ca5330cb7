package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// certificatesCommand makes what a cluster's programs trust one another by: authorities, certificates, the key that signs
// service account tokens, and a kubeconfig for each client. All keys are on P-256, which takes milliseconds.
func certificatesCommand() *cobra.Command {
	var server string
	var addresses []string
	var nodes map[string]string
	command := &cobra.Command{
		Use:   "cluster-certificates DIR",
		Short: "Makes a cluster's certificates and kubeconfigs in a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			return makeCertificates(arguments[0], server, addresses, nodes)
		},
		SilenceUsage: true,
	}
	command.Flags().StringVar(&server, "server", "", "where clients find the API server: https://ADDRESS:PORT")
	command.Flags().StringSliceVar(&addresses, "address", nil, "an address that the API server's certificate names")
	command.Flags().StringToStringVar(&nodes, "node", nil, "NAME=ADDRESS of a node")
	return command
}

func makeCertificates(folder, server string, addresses []string, nodes map[string]string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	authority, err := newAuthority(folder, "ca", "palimpsest-cluster")
	if err != nil {
		return err
	}
	frontProxy, err := newAuthority(folder, "front-proxy-ca", "palimpsest-front-proxy")
	if err != nil {
		return err
	}

	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if err := authority.server(folder, "apiserver", subject("kube-apiserver"), names, addresses); err != nil {
		return err
	}
	if err := authority.client(folder, "apiserver-kubelet-client", subject("kube-apiserver-kubelet-client", "system:masters")); err != nil {
		return err
	}
	if err := frontProxy.client(folder, "front-proxy-client", subject("front-proxy-client")); err != nil {
		return err
	}
	if err := newTokenKey(folder); err != nil {
		return err
	}

	clients := map[string]pkix.Name{
		"admin":              subject("admin", "system:masters"),
		"controller-manager": subject("system:kube-controller-manager"),
		"scheduler":          subject("system:kube-scheduler"),
		"proxy":              subject("system:kube-proxy"),
	}
	for node, address := range nodes {
		identity := subject("system:node:"+node, "system:nodes")
		clients[node] = identity
		if err := authority.server(folder, node+"-server", identity, []string{node}, []string{address}); err != nil {
			return err
		}
	}
	for name, identity := range clients {
		if err := authority.client(folder, name, identity); err != nil {
			return err
		}
		if err := writeKubeconfig(folder, name, server); err != nil {
			return err
		}
	}
	return nil
}

func subject(name string, groups ...string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: groups}
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(folder, file, name string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := newTemplate(subject(name))
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	self := &authority{template, key}
	if err := self.sign(folder, file, template, key); err != nil {
		return nil, err
	}
	return self, nil
}

func (a *authority) server(folder, file string, identity pkix.Name, names, addresses []string) error {
	template := newTemplate(identity)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, address := range addresses {
		parsed := net.ParseIP(address)
		if parsed == nil {
			return fmt.Errorf("%q is not an IP address: give the API server and each node one", address)
		}
		template.IPAddresses = append(template.IPAddresses, parsed)
	}
	return a.issue(folder, file, template)
}

func (a *authority) client(folder, file string, identity pkix.Name) error {
	template := newTemplate(identity)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(folder, file, template)
}

func (a *authority) issue(folder, file string, template *x509.Certificate) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	return a.sign(folder, file, template, key)
}

// sign writes FILE.crt and FILE.key.
func (a *authority) sign(folder, file string, template *x509.Certificate, key *ecdsa.PrivateKey) error {
	signed, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := writePem(folder, file+".crt", "CERTIFICATE", signed); err != nil {
		return err
	}
	return writeKey(folder, file+".key", key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func newTemplate(identity pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      identity,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// newTokenKey writes the pair that service account tokens are signed and checked with.
func newTokenKey(folder string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePem(folder, "service-accounts.pub", "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKey(folder, "service-accounts.key", key)
}

func writeKey(folder, file string, key *ecdsa.PrivateKey) error {
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePem(folder, file, "EC PRIVATE KEY", encoded)
}

func writePem(folder, file, kind string, bytes []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	return os.WriteFile(filepath.Join(folder, file), text, 0o600)
}

// writeKubeconfig writes NAME.kubeconfig, which holds the client's certificate itself, so that it can be copied anywhere.
func writeKubeconfig(folder, name, server string) error {
	if !strings.HasPrefix(server, "https://") {
		return fmt.Errorf("--server is %q: give https://ADDRESS:PORT", server)
	}
	contents := map[string][]byte{}
	for _, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			return err
		}
		contents[file] = text
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["palimpsest"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: contents["ca.crt"]}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: contents[name+".crt"],
		ClientKeyData:         contents[name+".key"],
	}
	config.Contexts["palimpsest"] = &clientcmdapi.Context{Cluster: "palimpsest", AuthInfo: name}
	config.CurrentContext = "palimpsest"
	return clientcmd.WriteToFile(*config, filepath.Join(folder, name+".kubeconfig"))
}
