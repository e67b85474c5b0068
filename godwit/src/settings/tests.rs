//! What settings promise: precedence, every mistake at once, nearest names, and documentation that is
//! also a settings file.

use super::layers::{self, Sources};
use super::table::SETTINGS;
use super::{Auth, Storage, default_toml, effective_toml, load};

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.toml");
    std::fs::write(&path, text).unwrap();
    (dir, Sources { file: Some(path), ..Sources::default() })
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.into(), b.into())
}

fn flag(flag: &str, key: &str, value: &str) -> (String, String, String) {
    (flag.into(), key.into(), value.into())
}

fn problems(sources: &Sources) -> Vec<String> {
    load(sources).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_later_source_wins() {
    let (_dir, mut sources) =
        file("[node]\nname = \"file\"\n[conn]\nlinger_ms = 1\n[api]\naddress = \"file:1\"\n");
    sources.variables = vec![pair("GODWIT_NODE__NAME", "variable"), pair("GODWIT_CONN__LINGER_MS", "2")];
    sources.flags = vec![flag("--name", "node.name", "flag")];
    let (effective, mistakes) = layers::read(&sources);
    assert_eq!(mistakes, []);
    let origin = |key| effective[key].origin.as_str();
    assert_eq!(origin("node.name"), "--name");
    assert_eq!(origin("conn.linger_ms"), "GODWIT_CONN__LINGER_MS");
    assert!(origin("api.address").ends_with("g.toml"));
    assert_eq!(origin("node.roles"), "built in");
    let settings = load(&sources).unwrap();
    assert_eq!(settings.node.name, "flag");
    assert_eq!(settings.conn.linger_ms, 2);
    assert_eq!(settings.api.address.as_deref(), Some("file:1"));
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place_and_what_is_valid() {
    let (_dir, mut sources) = file(
        "top = 1\n[node]\nnmae = \"x\"\n[conn]\nlinger_ms = \"soon\"\nidle_timeout_ms = 50000\n[storage]\nlog = \"kafka://h:1\"\n[atuh]\n",
    );
    sources.variables = vec![
        pair("GODWIT_OPS__LISTEN", "everywhere"),
        pair("GODWIT_CONN_LINGER_MS", "3"),
        pair("GODWIT_PORT_7100_TCP", "a platform's, not ours"),
        pair("HOME", "/"),
    ];
    sources.flags = vec![flag("--roles", "node.roles", "conn,cook")];
    let found = problems(&sources);
    let place = sources.file.unwrap().display().to_string();
    let expected = [
        format!("{place}:atuh: there is no such setting"),
        format!("{place}:conn.linger_ms: \"soon\" is not valid; valid is a whole number from 0 to 60000"),
        format!("{place}:node.nmae: there is no such setting; did you mean node.name?"),
        format!("{place}:conn.idle_timeout_ms: idle_timeout_ms is not above twice heartbeat_max_ms"),
        format!("{place}:top: there is no such setting"),
        "GODWIT_OPS__LISTEN: \"everywhere\" is not valid; valid is an IP address and a port".into(),
        "GODWIT_CONN_LINGER_MS: there is no such setting; did you mean GODWIT_CONN__LINGER_MS?".into(),
        "--roles: \"conn,cook\" is not valid; valid is one or more of conn, logic, api".into(),
        format!("storage.store: is embedded and {place}:storage.log is remote"),
    ];
    for text in &expected {
        assert!(found.iter().any(|line| line.starts_with(text)), "no {text:?} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("node.name: is needed with remote storage")));
}

#[test]
fn the_documentation_parses_back_to_the_built_in_values() {
    let (_dir, sources) = file(&default_toml());
    let (effective, mistakes) = layers::read(&sources);
    assert_eq!(mistakes, []);
    for setting in SETTINGS {
        assert_eq!(effective[setting.key].value, setting.built_in(), "{}", setting.key);
        assert!(effective[setting.key].origin.ends_with("g.toml"), "{} is missing", setting.key);
    }
    let built_in = load(&Sources::default()).unwrap();
    assert_eq!(format!("{:?}", load(&sources).unwrap()), format!("{built_in:?}"));
    let conn = conn::Config { node: "godwit".into(), ..conn::Config::default() };
    assert_eq!(format!("{:?}", built_in.conn), format!("{conn:?}"));
    assert_eq!(
        built_in.logic,
        logic::Config { settings: built_in.logic.settings, ..logic::Config::new("godwit") }
    );
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_without_passwords() {
    let sources = Sources {
        variables: vec![pair("GODWIT_STORAGE__STORE", "scylla://u:hush@h:9042/ks")],
        flags: vec![flag("--log", "storage.log", "kafka://h:9092"), flag("--name", "node.name", "a")],
        ..Sources::default()
    };
    let (shown, mistakes) = effective_toml(&sources);
    // A place takes no password, and its mistake does not repeat one.
    assert_eq!(mistakes.len(), 1);
    let mistake = format!("{mistakes:?}");
    assert!(mistake.contains("users and passwords are not taken") && !mistake.contains("hush"), "{mistake}");
    assert!(shown.contains("name = \"a\" # --name\n"), "{shown}");
    assert!(shown.contains("store = \"scylla://u:***@h:9042/ks\" # GODWIT_STORAGE__STORE\n"), "{shown}");
    assert!(shown.contains("[ops]\nlisten = \"127.0.0.1:7190\" # built in\n"), "{shown}");
    assert!(!shown.contains("hush"));
    shown.parse::<toml::Table>().unwrap();
}

#[test]
fn storage_is_in_one_place() {
    let sources = |log: &str, store: &str| Sources {
        flags: vec![
            flag("--log", "storage.log", log),
            flag("--store", "storage.store", store),
            flag("--name", "node.name", "n"),
        ],
        ..Sources::default()
    };
    assert_eq!(load(&sources("embedded:a", "embedded:a")).unwrap().storage, Storage::Embedded("a".into()));
    assert!(problems(&sources("embedded:a", "embedded:b"))[0].contains("give one directory"));
    assert!(problems(&sources("embedded", "scylla://h/k"))[0].contains("or both are remote"));
    assert!(problems(&sources("redis://u:hush@h", "scylla://h/k"))[0].contains("redis://u:***@h"));
    assert!(matches!(load(&sources("kafka://h", "scylla://h/k")).unwrap().storage, Storage::Remote { .. }));
    let both = problems(&sources("kafka://h:port", "scylla://u:hush@h"));
    assert!(both[0].contains("\"h:port\" is not host:port"), "{both:?}");
    assert!(both[1].contains("users and passwords") && !both[1].contains("hush"), "{both:?}");
    assert!(problems(&sources("kafka://h", "scylla://h"))[0].contains("/keyspace"));
}

#[test]
fn nothing_is_exposed_by_accident() {
    let mut sources =
        Sources { flags: vec![flag("--ops-listen", "ops.listen", "0.0.0.0:7190")], ..Sources::default() };
    assert!(problems(&sources)[0].contains("development mode listens on nothing else"));
    sources.flags.extend([
        flag("--set auth.jwks_file", "auth.jwks_file", "k.json"),
        flag("--set auth.issuer", "auth.issuer", "i"),
        flag("--set auth.audience", "auth.audience", "a"),
    ]);
    assert!(matches!(load(&sources).unwrap().auth, Auth::Jwks { .. }));
    sources.flags.extend([
        flag("--log", "storage.log", "kafka://h"),
        flag("--store", "storage.store", "scylla://h/k"),
        flag("--name", "node.name", "n"),
        flag("--node-listen", "node.listen", "10.0.0.1:7120"),
    ]);
    assert!(problems(&sources)[0].contains("node.insecure = true"));
    sources.flags.push(flag("--set node.insecure", "node.insecure", "true"));
    load(&sources).unwrap();
    // What is not opened needs no name.
    sources.flags.push(flag("--set node.listen", "node.listen", "0.0.0.0:7120"));
    assert!(problems(&sources)[0].contains("nobody reaches 0.0.0.0:7120"));
    sources.flags.push(flag("--roles", "node.roles", "logic"));
    load(&sources).unwrap();
}

#[test]
fn half_of_a_key_is_a_mistake() {
    let half = Sources { flags: vec![flag("--x", "auth.issuer", "i")], ..Sources::default() };
    assert!(problems(&half)[0].contains("does nothing without auth.jwks_file"));
    let half = Sources { flags: vec![flag("--x", "auth.jwks_file", "f")], ..Sources::default() };
    assert_eq!(problems(&half).len(), 2);
    let none = Sources { flags: vec![flag("--x", "development.allowed", "false")], ..Sources::default() };
    assert!(problems(&none)[0].contains("is needed, because development.allowed is false"));
}
