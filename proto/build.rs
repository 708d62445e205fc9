//! Compiles the protobuf schemas without a `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    const SCHEMAS: [&str; 2] = ["schema/controller.proto", "schema/session.proto"];
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(SCHEMAS, ["schema"])?;
    tonic_prost_build::configure()
        .bytes(".")
        // Few inodes have any.
        .boxed(".pocket.session.v1.Entry.acls")
        .compile_fds(descriptors)?;
    Ok(())
}
