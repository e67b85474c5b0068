//! Compiles the schema: messages always, the services between nodes with the `grpc` feature.
//! Pure Rust (protox): no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 6] = ["link", "entry", "api", "record", "row", "node"];
    let paths: Vec<String> = FILES.iter().map(|f| format!("schema/godwit/v1/{f}.proto")).collect();
    println!("cargo:rerun-if-changed=schema");
    let set = protox::compile(&paths, ["schema"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("godwit.v1.bin"), prost::Message::encode_to_vec(&set))?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    if std::env::var_os("CARGO_FEATURE_GRPC").is_some() {
        tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    } else {
        config.compile_fds(set)?;
    }
    Ok(())
}
