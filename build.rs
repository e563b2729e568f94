//! Compiles `proto/driveningress.proto` with `protox`, so that building needs nothing but Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/driveningress.proto");
    println!("cargo:rerun-if-env-changed=GREENROOM_COMMIT");
    let descriptors = protox::compile(["driveningress.proto"], ["proto"])?;
    prost_build::Config::new()
        // Audio and animation are relayed: `Bytes` shares the received buffer instead of copying it.
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
