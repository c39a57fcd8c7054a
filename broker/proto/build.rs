//! Compiles the .proto files beside this file with a pure-Rust parser, so that no `protoc` is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "apache/rocketmq/v2/service.proto",
        "apache/rocketmq/v2/admin.proto",
        "pinnace/admin/v1/admin.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(protos, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .bytes(".apache.rocketmq.v2.Message.body")
        .bytes(".apache.rocketmq.v2.AdminSendMessageRequest.body")
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
