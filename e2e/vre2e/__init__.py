"""End-to-end tests: the operator on a real Kubernetes that is made on this machine."""
