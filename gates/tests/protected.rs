//! What no file gate opens and what none writes, whatever its root is; and how a file that is written stands on the disk.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test lays out the files that a gate then meets")]
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cantrip_gates::{CallContext, Gate, GateError, PROTECTED_NAMES, Root, RootError, builtin};
use serde_json::{Value, json};
use tempfile::TempDir;

fn call(gate: &Arc<dyn Gate>, arguments: Value) -> Result<Value, GateError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(gate.call(arguments, &CallContext::default()))
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a folder"));
        for folder in ["root/.git/hooks", "root/sub", "root/data/loom", "config"] {
            fs::create_dir_all(place.path(folder)).expect("folders");
        }
        for (name, content) in [
            ("root/.git/config", "[core]"),
            ("root/data/node.key", "needle of a key"),
            ("root/data/loom/db", "needle of a record"),
            ("root/notes.txt", "needle in the open"),
            ("config/config.toml", "needle of the user"),
        ] {
            fs::write(place.path(name), content).expect("files");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn root(&self) -> Root {
        Root::open(&self.path("root")).expect("a root")
    }

    fn excluding(&self, names: &[&str]) -> Root {
        self.root().excluding(names.iter().map(|name| self.path(name))).expect("a root")
    }
}

fn written(root: Root, path: &str) -> Result<Value, GateError> {
    call(&builtin::write_file(root), json!({"path": path, "content": "new", "create_dirs": true}))
}

fn refused(result: Result<Value, GateError>, why: &str, about: &str) {
    match result {
        Err(GateError::Denied(message)) => assert!(message.contains(why), "{about}: {message}"),
        other => unreachable!("{about} gave {other:?}"),
    }
}

#[test]
fn names_that_other_tools_obey_are_written_at_no_depth_and_in_no_spelling() {
    let place = Place::new();
    for name in PROTECTED_NAMES {
        for path in [(*name).to_owned(), format!("sub/deeper/{name}"), name.to_uppercase(), format!("{name}/inside/x")]
        {
            refused(written(place.root(), &path), &format!("leads to `{name}`"), &path);
        }
    }
    for path in [
        ".git/hooks/pre-commit",
        ".GIT/config",
        ".git /x",
        ".git./x",
        ".git::$INDEX_ALLOCATION/x",
        "GIT~1/hooks/x",
        "sub/.git/../x",
        ".git",
        "sub/CANTRI~1.TOM",
        "./sub//.Git/x",
        ".g\u{200d}it/x",
        ".\u{17f}vn/x",
        "_DARC\u{17f}",
    ] {
        refused(written(place.root(), path), "other tools obey", path);
    }
    assert_eq!(fs::read_dir(place.path("root/.git/hooks")).expect("a folder").count(), 0);
    for path in [".gitignore", ".github/workflows/x.yml", "git", "cantrip.toml.md", "sub/node"] {
        written(place.root(), path).expect(path);
    }
    assert_eq!(call(&builtin::read_file(place.root()), json!({"path": ".git/config"})), Ok(json!("[core]")));
}

#[test]
fn a_link_to_a_protected_name_is_that_name() {
    let place = Place::new();
    symlink(".git", place.path("root/link")).expect("a link");
    symlink("../.git/hooks", place.path("root/sub/hooks")).expect("a link");
    symlink("link", place.path("root/second")).expect("a link");
    for path in ["link/hooks/x", "sub/hooks/x", "second/x", "sub/../link/x"] {
        refused(written(place.root(), path), "leads to `.git`", path);
    }
}

#[test]
fn a_hard_link_to_a_protected_file_is_replaced_and_not_written_through() {
    let place = Place::new();
    fs::hard_link(place.path("root/.git/config"), place.path("root/sub/innocent")).expect("a link");
    written(place.root(), "sub/innocent").expect("replaced");
    assert_eq!(fs::read_to_string(place.path("root/.git/config")).expect("a file"), "[core]");
    assert_eq!(fs::read_to_string(place.path("root/sub/innocent")).expect("a file"), "new");
}

#[test]
fn a_single_name_is_lifted_and_nothing_else() {
    let place = Place::new();
    let root = place.root().allowing(".envrc").expect("one of the names");
    written(root.clone(), "sub/.envrc").expect("lifted");
    refused(written(root, ".git/x"), "allow_names = [\".git\"]", ".git/x");
    let error = place.root().allowing(".bashrc").expect_err("not one of the names");
    assert!(error.to_string().contains(".cantripignore"), "{error}");
}

#[test]
fn a_closed_place_is_opened_by_no_gate_and_by_no_way() {
    let place = Place::new();
    symlink("data", place.path("root/link")).expect("a link");
    symlink("data/loom", place.path("root/deep")).expect("a link");
    symlink("../data/node.key", place.path("root/sub/key")).expect("a link");
    let root = place.excluding(&["root/data", "config"]);
    let why = "which no gate opens";
    for path in ["data/node.key", "link/node.key", "deep/db", "sub/key", "sub/../data/loom/db", "data/missing"] {
        refused(call(&builtin::read_file(root.clone()), json!({"path": path})), why, path);
        refused(call(&builtin::search(root.clone()), json!({"pattern": "needle", "path": path})), why, path);
        // A link at the end of a path is never followed to be written, wherever it leads.
        let why = if path == "sub/key" { "is a symbolic link" } else { why };
        refused(written(root.clone(), path), why, path);
    }
    for path in ["data", "data/loom", "link", "deep", "data/."] {
        refused(call(&builtin::list_dir(root.clone()), json!({"path": path})), why, path);
        refused(call(&builtin::search(root.clone()), json!({"pattern": "needle", "path": path})), why, path);
    }
    let found = call(&builtin::search(root.clone()), json!({"pattern": "needle"})).expect("a search");
    assert_eq!(found, json!([{"path": "notes.txt", "line": 1, "text": "needle in the open"}]));
    written(root.clone(), "sub/x").expect("beside it");
    assert_eq!(call(&builtin::read_file(root), json!({"path": "data/../notes.txt"})).ok(), None);
}

#[test]
fn a_closed_place_is_known_after_it_was_moved_or_made_anew() {
    let place = Place::new();
    let root = place.excluding(&["root/data", "root/later/trust"]);
    fs::rename(place.path("root/data"), place.path("root/moved")).expect("moved");
    fs::create_dir(place.path("root/data")).expect("made anew");
    fs::write(place.path("root/data/node.key"), "needle").expect("a file");
    for path in ["moved/node.key", "data/node.key", "DATA/node.key"] {
        let result = call(&builtin::read_file(root.clone()), json!({"path": path}));
        assert!(matches!(&result, Err(GateError::Denied(_))), "{path}: {result:?}");
    }
    refused(written(root.clone(), "later/trust/store.toml"), "no gate opens", "a place that is not there yet");
    assert!(!place.path("root/later/trust").exists());
    let found = call(&builtin::search(root), json!({"pattern": "needle"})).expect("a search");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn a_single_file_can_be_closed_and_its_folder_stays_open() {
    let place = Place::new();
    let root = Root::open(&place.path("config")).expect("a root").excluding([place.path("config/config.toml")]);
    let root = root.expect("a root");
    refused(call(&builtin::read_file(root.clone()), json!({"path": "config.toml"})), "no gate opens", "the file");
    refused(written(root.clone(), "config.toml"), "no gate opens", "the file");
    fs::remove_file(place.path("config/config.toml")).expect("gone");
    refused(written(root.clone(), "Config.toml"), "no gate opens", "the file that is not there");
    written(root, "other.toml").expect("beside it");
}

#[test]
fn a_root_inside_of_a_closed_place_is_refused_when_it_is_made() {
    let place = Place::new();
    for name in ["root/data", "root/data/loom"] {
        let root = Root::open(&place.path(name)).expect("a root");
        let refused = root.excluding([place.path("root/data")]);
        assert!(matches!(refused, Err(RootError::Closed(_))), "{name}");
    }
    place.root().excluding(Vec::<PathBuf>::new()).expect("nothing is closed");
}

#[test]
fn a_path_leads_through_a_bounded_number_of_directories() {
    let place = Place::new();
    let result = written(place.root(), &format!("{}x", "a/".repeat(200)));
    assert!(matches!(&result, Err(GateError::Invalid(why)) if why.contains("more than 128 directories")), "{result:?}");
    written(place.root(), &format!("{}x", "sub/../".repeat(200))).expect("never deep");
    symlink("loop", place.path("root/loop")).expect("a link");
    let result = call(&builtin::read_file(place.root()), json!({"path": "loop/x"}));
    assert!(matches!(&result, Err(GateError::Failed(why)) if why.contains("40 symbolic links")), "{result:?}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn a_replaced_file_runs_as_nobody_else() {
    let place = Place::new();
    for (before, after) in [(0o4755, 0o755), (0o2755, 0o755), (0o1644, 0o644), (0o6711, 0o711), (0o600, 0o600)] {
        let path = place.path("root/sub/tool");
        fs::write(&path, "old").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).expect("a mode");
        assert_eq!(mode(&path), before);
        written(place.root(), "sub/tool").expect("replaced");
        assert_eq!(mode(&path), after, "from {before:o}");
        fs::remove_file(&path).expect("gone");
    }
}

/// Another thread looks at every file of the folder while a private one is replaced again and again: none that it sees is
/// open to others.
#[test]
fn new_content_never_stands_in_a_file_that_is_more_readable_than_the_last_one() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = Place::new();
    let path = place.path("root/sub/private");
    fs::write(&path, "old").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(place.path("root/sub")).expect("a folder").flatten() {
                    seen |= entry.metadata().map_or(0, |metadata| metadata.mode() & 0o777);
                }
            }
            seen
        });
        for _ in 0..300 {
            written(place.root(), "sub/private").expect("replaced");
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(watch.join().expect("a watcher"), 0o600);
    });
}
