//! Compiles the protobufs with protox, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let etcd = protox::compile(["rpc.proto", "client.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::codec::SmallCodec").compile_fds(etcd)?;
    let peer = protox::compile(["peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(peer)?;
    let control = protox::compile(["control.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(control)?;
    Ok(())
}
