//! A real etcd decides what is right: the same operations go to it and to one `vr-replica`, and the answers must be the
//! same, codes and texts of errors, HashKV and watch streams included. `etcdctl`, which nobody here wrote, is tried as
//! well.
//!
//! Needs an etcd: `VR_ETCD` and `VR_ETCDCTL` name the binaries, else they are looked for on `PATH`; where there is none
//! the tests say that they were skipped, unless `VR_ETCD_REQUIRED` is set (in CI): then that is a failure.
//! `bash .ci/etcd/install.sh` builds the version that CI uses.
//!
//! `VR_SEED` runs one seed, `VR_STEPS` that many steps of it. Not compared, because it cannot be equal: ids of cluster
//! and member, the term, what is left of a lease's time, how events are spread over watch responses, the order of
//! entries that a requested sort finds equal (etcd's own order there is an accident of an unstable sort), and HashKV at
//! the very revision of a compaction (etcd answers from a cache there, with the compaction before as its base).

mod answer;
#[path = "../authority/mod.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod authority;
mod call;
mod client;
#[path = "../cluster/mod.rs"]
mod cluster;
mod dice;
mod differential;
mod etcdctl;
mod expiry;
mod generate;
mod large;
mod members;
mod server;
mod tls;
mod watch;
