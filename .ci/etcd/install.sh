#!/usr/bin/env bash
# Prints the directory with the etcd and etcdctl that the tests compare with, and builds them if they are not there yet.
exec bash "$(dirname "$0")/../go.sh" etcd etcd=go.etcd.io/etcd/server/v3 etcdctl=go.etcd.io/etcd/etcdctl/v3
