//! The wire: etcd's v3 interface and the messages between replicas, generated at build time without `protoc`.
//!
//! Payloads are [`bytes::Bytes`]: a decoded value is a slice of the buffer it came in. Whoever keeps one for long
//! copies it, or pins that buffer.

#![allow(missing_docs, reason = "generated; the meaning stands in the .proto files and in vr-replica")]
#![allow(clippy::all, reason = "generated")]

mod codec;

/// etcd's services and messages.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
/// etcd's keys, values and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
/// etcd's users and roles.
pub mod authpb {
    tonic::include_proto!("authpb");
}
/// What replicas say to each other.
pub mod peer {
    tonic::include_proto!("vr.peer.v1");
}
/// What the operator asks of a replica.
pub mod control {
    tonic::include_proto!("vr.control.v1");
}

pub mod frame;
