package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"
)

// Volumes that stay on the node where their first pod was placed: a folder there, which goes with the volume.
type folders struct {
	// Holds a folder for each node, with its disks.
	nodes string
}

const hostname = "kubernetes.io/hostname"

func (f folders) Provision(_ context.Context, wanted controller.ProvisionOptions) (*core.PersistentVolume, controller.ProvisioningState, error) {
	node := wanted.SelectedNode
	if node == nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("the storage class must wait for the first consumer")
	}
	if err := os.MkdirAll(filepath.Join(f.nodes, node.Name, "disks", wanted.PVName), 0o777); err != nil {
		return nil, controller.ProvisioningNoChange, err
	}
	// The umask has its say in MkdirAll.
	if err := os.Chmod(filepath.Join(f.nodes, node.Name, "disks", wanted.PVName), 0o777); err != nil {
		return nil, controller.ProvisioningNoChange, err
	}
	here := core.NodeSelectorRequirement{Key: hostname, Operator: core.NodeSelectorOpIn, Values: []string{node.Labels[hostname]}}
	volume := &core.PersistentVolume{ObjectMeta: meta.ObjectMeta{Name: wanted.PVName}}
	volume.Spec = core.PersistentVolumeSpec{
		AccessModes:                   wanted.PVC.Spec.AccessModes,
		Capacity:                      core.ResourceList{core.ResourceStorage: wanted.PVC.Spec.Resources.Requests[core.ResourceStorage]},
		PersistentVolumeReclaimPolicy: *wanted.StorageClass.ReclaimPolicy,
		NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
			NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{here}}},
		}},
	}
	volume.Spec.Local = &core.LocalVolumeSource{Path: "/mnt/disks/" + wanted.PVName}
	return volume, controller.ProvisioningFinished, nil
}

func (f folders) Delete(_ context.Context, volume *core.PersistentVolume) error {
	found, err := filepath.Glob(filepath.Join(f.nodes, "*", "disks", volume.Name))
	for _, folder := range found {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	return err
}

func disks() *cobra.Command {
	var config, nodes string
	run := func(command *cobra.Command, _ []string) error {
		found, err := clientcmd.BuildConfigFromFlags("", config)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(found)
		if err != nil {
			return err
		}
		controller.NewProvisionController(klog.FromContext(command.Context()), client, "box.local/disk", folders{nodes},
			controller.LeaderElection(false)).Run(command.Context())
		return nil
	}
	command := &cobra.Command{Use: "disks", RunE: run}
	command.Flags().StringVar(&config, "kubeconfig", "", "how the API server is reached")
	command.Flags().StringVar(&nodes, "nodes", "", "the folder with a folder for each node")
	return command
}
