// Enforces NetworkPolicies on one node: kube-network-policies of kubernetes-sigs judges the first packet of each
// connection that netfilter hands to it.
//
// Upstream's own rule that hands packets over needs nftables' `queue`, which kernels for small machines lack. Where it is
// not there upstream says so in the log and goes on to judge; e2e/vre2e/box.py makes the rule, with iptables' NFQUEUE.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func enforce(config, node string, queue int) error {
	access, err := clientcmd.BuildConfigFromFlags("", config)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	ended, end := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer end()
	seen := informers.NewSharedInformerFactory(client, 0)
	// Policies of administrators are none of this program's business: the nils.
	controller, err := networkpolicy.NewController(client, seen.Networking().V1().NetworkPolicies(),
		seen.Core().V1().Namespaces(), seen.Core().V1().Pods(), nil, nil, nil, nil,
		networkpolicy.Config{NodeName: node, QueueID: queue})
	if err != nil {
		return err
	}
	seen.Start(ended.Done())
	return controller.Run(ended)
}

func main() {
	klog.InitFlags(nil)
	config := flag.String("kubeconfig", "", "how to reach the API server")
	node := flag.String("hostname-override", "", "the node that this is")
	queue := flag.Int("queue", 100, "number of the queue that netfilter fills")
	flag.Parse()
	if err := enforce(*config, *node, *queue); err != nil {
		klog.ErrorS(err, "policies are not enforced")
		os.Exit(1)
	}
}
