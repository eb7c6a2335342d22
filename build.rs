//! Generates the messages that containerd-shim-protos lacks, from `proto/`, without protoc.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/runtimeoptions.proto")
        .cargo_out_dir("proto")
        .run_from_script();
}
