package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/dns/dnsmessage"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
)

const zoneSuffix = ".svc.cluster.local."

// dnsCommand answers for cluster.local what CoreDNS would, as far as pods ask for it: addresses of Services, and of the
// pods behind headless ones, by service and by hostname. There is nothing behind it to ask: any other name does not exist.
func dnsCommand() *cobra.Command {
	var kubeconfig, address string
	command := &cobra.Command{
		Use:   "cluster-dns",
		Short: "Resolves the names of a cluster's Services",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return serveDNS(kubeconfig, address)
		},
		SilenceUsage: true,
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&address, "address", "", "where to listen, on UDP and TCP: ADDRESS:PORT")
	return command
}

func serveDNS(kubeconfig, address string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	names := zone{factory.Core().V1().Services().Lister(), factory.Discovery().V1().EndpointSlices().Lister()}
	factory.Start(nil)
	factory.WaitForCacheSync(nil)

	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- names.servePackets(packets) }()
	go func() { ended <- names.serveConnections(listener) }()
	return <-ended
}

// zone resolves names from what the API server holds now: the listers are kept up to date by watches.
type zone struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
}

// resolve gives the addresses of SERVICE.NAMESPACE.svc.cluster.local. or HOSTNAME.SERVICE.NAMESPACE.svc.cluster.local., and
// whether there is such a name.
func (z zone) resolve(name string) ([]net.IP, bool) {
	name, found := strings.CutSuffix(strings.ToLower(name), zoneSuffix)
	if !found {
		return nil, false
	}
	parts := strings.Split(name, ".")
	hostname := ""
	if len(parts) == 3 {
		hostname, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 {
		return nil, false
	}
	service, err := z.services.Services(parts[1]).Get(parts[0])
	if err != nil || service.Spec.ClusterIP == "" {
		return nil, false
	}
	if service.Spec.ClusterIP != core.ClusterIPNone {
		return []net.IP{net.ParseIP(service.Spec.ClusterIP)}, hostname == ""
	}
	addresses := z.endpoints(service, hostname)
	return addresses, hostname == "" || len(addresses) > 0
}

// endpoints gives the addresses of the ready pods behind a headless Service; of all where it publishes those not ready.
func (z zone) endpoints(service *core.Service, hostname string) []net.IP {
	selector := labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service.Name})
	slices, err := z.slices.EndpointSlices(service.Namespace).List(selector)
	if err != nil {
		return nil
	}
	var addresses []net.IP
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if !ready && !service.Spec.PublishNotReadyAddresses {
				continue
			}
			if hostname != "" && (endpoint.Hostname == nil || *endpoint.Hostname != hostname) {
				continue
			}
			for _, address := range endpoint.Addresses {
				addresses = append(addresses, net.ParseIP(address))
			}
		}
	}
	return addresses
}

// answer takes a query and gives its answer; at most limit bytes, or one marked as truncated, which is asked again over TCP.
func (z zone) answer(query []byte, limit int) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	addresses, found := z.resolve(question.Name.String())
	message := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{question},
	}
	if !found {
		message.RCode = dnsmessage.RCodeNameError
	}
	// A name without addresses of the type asked for is an answer, too: an empty one.
	if question.Type == dnsmessage.TypeA {
		for _, address := range addresses {
			message.Answers = append(message.Answers, newRecord(question, address))
		}
	}
	packed, err := message.Pack()
	if err == nil && len(packed) > limit {
		message.Truncated = true
		message.Answers = nil
		packed, err = message.Pack()
	}
	return packed, err
}

// newRecord lives for a second: a pod that is gone must not be asked for long.
func newRecord(question dnsmessage.Question, address net.IP) dnsmessage.Resource {
	body := dnsmessage.AResource{}
	copy(body.A[:], address.To4())
	header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
	return dnsmessage.Resource{Header: header, Body: &body}
}

func (z zone) servePackets(packets net.PacketConn) error {
	const plainDNS = 512
	buffer := make([]byte, 4096)
	for {
		length, sender, err := packets.ReadFrom(buffer)
		if err != nil {
			return fmt.Errorf("udp: %w", err)
		}
		// Whoever sends what is no query is not answered, and a sender that is gone does no harm.
		if answer, err := z.answer(buffer[:length], plainDNS); err == nil {
			_, _ = packets.WriteTo(answer, sender)
		}
	}
}

func (z zone) serveConnections(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
		go func() {
			defer connection.Close()
			_ = z.serveConnection(connection)
		}()
	}
}

// serveConnection answers until the other side has no more to ask; each message comes after its length.
func (z zone) serveConnection(connection net.Conn) error {
	for {
		if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		var length uint16
		if err := binary.Read(connection, binary.BigEndian, &length); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		query := make([]byte, length)
		if _, err := io.ReadFull(connection, query); err != nil {
			return err
		}
		answer, err := z.answer(query, 65535)
		if err != nil {
			return err
		}
		framed := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
		if _, err := connection.Write(append(framed, answer...)); err != nil {
			return err
		}
	}
}
