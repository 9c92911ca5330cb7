//! The Dockerfiles of `deploy`, as far as they can be judged without a registry: what they copy is there, what the program links to
//! comes along, and the image is like the one that the cluster of the tests runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palimpsest_tests::{built, repository};

/// A Dockerfile's instructions: the word that begins each, and the rest.
fn instructions(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.to_owned())).unwrap()).collect()
}

/// What follows a word in the instructions of one kind.
fn arguments<'a>(instructions: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(first, _)| first == word).map(|(_, rest)| rest.as_str()).collect()
}

/// The paths of the shared libraries that a program loads.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.contains("not found"), "{listed}");
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| fs::canonicalize(path).unwrap()).collect()
}

/// The Debian package that a file belongs to.
fn package_of(file: &Path) -> String {
    let name = file.file_name().unwrap().to_string_lossy();
    let found = Command::new("dpkg-query").args(["--search", &format!("*/{name}")]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    found.split(':').next().unwrap().to_owned()
}

fn check(dockerfile: &str, program: &str) {
    let path = repository().join("deploy").join(dockerfile);
    let instructions = instructions(&path);
    let copies = arguments(&instructions, "COPY");
    let mut copied = Vec::new();
    for copy in copies.iter().filter_map(|copy| copy.strip_prefix("--from=build /src/")) {
        let (source, target) = copy.split_once(' ').unwrap();
        match source.strip_prefix("target/release/") {
            Some(binary) => {
                assert_eq!((binary, target), (program, "/usr/bin/"), "{dockerfile}");
            }
            None => copied.push(fs::canonicalize(repository().join(source)).unwrap()),
        }
    }
    assert!(copies.iter().any(|copy| copy.contains(program)), "{dockerfile} does not copy {program}");
    let runs = arguments(&instructions, "RUN").join("\n");
    assert!(runs.contains(&format!("cargo build --release --locked --package {program}")), "{dockerfile}: {runs}");
    for script in runs.split_whitespace().filter(|word| word.starts_with("scripts/")) {
        assert!(repository().join(script).exists(), "{dockerfile} runs {script}, which is not there");
    }
    // The toolchain is one that the workspace says will do.
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert_eq!(arguments(&instructions, "FROM")[0], format!("rust:{oldest}-bookworm AS build"));

    // Each library comes with a folder that is copied, with a package that is installed, or with every Debian.
    let installed = |package: &str| ["libc6", "libgcc-s1"].contains(&package) || runs.contains(package);
    for library in libraries(&built(program)) {
        let along = copied.iter().any(|folder| library.starts_with(folder)) || installed(&package_of(&library));
        assert!(along, "{dockerfile} leaves out {}, which {program} loads", library.display());
    }

    // As tests/cluster/image.sh makes them.
    let recipe = fs::read_to_string(repository().join("tests/cluster/oci_image.py")).unwrap();
    let user = recipe.lines().find_map(|line| line.strip_prefix("USER = ")).unwrap();
    assert_eq!(arguments(&instructions, "USER"), [format!("{user}:{user}")]);
    assert_eq!(arguments(&instructions, "ENTRYPOINT"), [format!("[\"/usr/bin/{program}\"]")]);
}

#[test]
fn the_workers_image_has_what_the_worker_loads() {
    check("Dockerfile.worker", "palimpsest-worker");
}

#[test]
fn the_operators_image_has_what_the_operator_loads() {
    check("Dockerfile.operator", "palimpsest-operator");
}
