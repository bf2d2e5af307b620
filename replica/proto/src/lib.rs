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

/// What native clients and replicas say to each other.
pub mod client {
    pub use super::vr::client::v1::*;

    /// First on a native client's connection, where HTTP has its request line; the last byte is the version.
    pub const MAGIC: &[u8; 8] = b"VRCLNT\0\x01";
}

pub mod frame;
pub mod status;

// The generated code reaches etcd's messages by way of its own package's path.
mod vr {
    pub(crate) mod client {
        #[allow(unreachable_pub, reason = "generated")]
        pub mod v1 {
            tonic::include_proto!("vr.client.v1");
        }
    }
}
