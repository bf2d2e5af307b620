# Everything that CI runs, in its order.
check:
    bash .ci/run

# The tests. What needs a real etcd says that it was skipped; `just check` has one.
test:
    cargo test --workspace

# Formats everything.
fmt:
    cargo fmt --all

# Lints as CI does.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Licences, bans, sources, and (with a network) advisories.
deny:
    bash .ci/deny.sh
    cargo deny check advisories

# The protocol under faults.
sim seeds="1000":
    cargo run --release -p vr-sim -- swarm --seeds {{seeds}}

# The rehearsal of the disaster.
drill *arguments:
    cargo run --release -p vr -- drill {{arguments}}

# Beside a real etcd on this machine, in turns.
bench *arguments:
    cargo build --release -p vr
    python3 .ci/bench.py {{arguments}}

# A VRCluster on a real Kubernetes, made on this machine; needs root.
e2e *arguments:
    e2e/run {{arguments}}
