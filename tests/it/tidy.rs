//! The architecture, kept by a test: who may import whom, how long a file may be, how much a type may hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms from the ground up; a room imports only rooms above it in this list.
const ROOMS: &[&str] = &[
    "core",
    "identity",
    "schema",
    "policy",
    "dataset",
    "mapping",
    "agreement",
    "negotiation",
    "transfer",
    "catalog",
    "audit",
    "durable",
    "keys",
    "ingest",
    "export",
    "source",
    "storage",
    "index",
    "blob",
    "config",
    "telemetry",
    "net",
    "node",
    "idempotency",
    "evidence",
    "membership",
    "schemas",
    "discovery",
    "delivery",
    "contracts",
    "publishing",
    "sources",
    "subscriptions",
    "operations",
    "services",
    "protocol",
    "management",
    "server",
    "alliance",
    "assembly",
    "enrol",
    "backup",
    "cli",
];
/// Up to this room nothing knows a runtime, a file system, a database or the network.
const LAST_PURE: &str = "audit";
/// The rooms of the use cases: only they change state, and so does what makes a node's folder.
const COMMITS: &[&str] = &[
    "src/storage/",
    "src/node/gate.rs",
    "src/node/refusals.rs",
    "src/evidence/",
    "src/membership/",
    "src/schemas/",
    "src/delivery/",
    "src/contracts/",
    "src/publishing/",
    "src/sources/",
    "src/subscriptions.rs",
    "src/operations/",
    "src/enrol/",
    // The search index holds no state.
    "src/index/",
    "tests/",
    "benches/",
    "examples/tck_connector.rs",
];
const LINES_MAX: usize = 500;
/// Files that may be longer, with the reason.
const LONGER: &[(&str, usize, &str)] =
    &[("tests/golden/write.rs", 700, "the generator of the golden files is one list of documents")];
const FIELDS_MAX: usize = 12;
/// Types that may have more fields, with the reason.
const WIDER: &[(&str, &str)] = &[
    ("Agreement", "a signed document whose members FORMATS.md fixes"),
    ("Manifest", "a signed document whose members FORMATS.md fixes"),
    ("KeyRequest", "a signed document whose members FORMATS.md fixes"),
    ("Holding", "a row: what the database keeps of a received dataset"),
    ("Negotiation", "a row: what the database keeps of a negotiation"),
    ("Transfer", "a row: what the database keeps of a transfer"),
    ("VersionRow", "a row: what the database keeps of a dataset version"),
    ("Offered", "a DCAT dataset as the catalog has it"),
    ("HealthReport", "the figures of a node as the API shows them"),
    ("RequestView", "a request as the API shows it"),
    ("State", "the in-memory store: one field for each table"),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    ["src", "tests", "examples", "benches"]
        .iter()
        .filter(|f| root.join(f).exists())
        .for_each(|f| files(&root.join(f), &mut found));
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room(name: &str) -> Option<usize> {
    let inside = name.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    ROOMS.iter().position(|known| *known == room)
}

/// Tests may use what they need.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Comments name things without using them.
fn without_comments(text: &str) -> String {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(code).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some(own) = room(&name).filter(|_| !name.ends_with("tests.rs")) else { continue };
        let parts = without_tests(&text).split("crate::").skip(1);
        for used in parts.map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()) {
            match ROOMS.iter().position(|known| *known == used) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{name} imports {used}")),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules of the source tree, and which of them use which.
struct Modules {
    /// Path of a module, as `delivery::plain`, to its text.
    texts: BTreeMap<String, String>,
    /// By module, the names that it passes on with `pub use`, and where they come from.
    exported: BTreeMap<String, BTreeMap<String, String>>,
}

impl Modules {
    fn read() -> Self {
        let mut texts = BTreeMap::new();
        for (name, text) in sources() {
            let Some(path) = name.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { continue };
            if path.ends_with("tests") || ["lib", "main"].contains(&path) {
                continue;
            }
            let path = path.trim_end_matches("/mod").replace('/', "::");
            texts.insert(path, without_comments(without_tests(&text)));
        }
        let mut modules = Self { texts, exported: BTreeMap::new() };
        for module in modules.texts.keys().cloned().collect::<Vec<_>>() {
            let mut exported = BTreeMap::new();
            for (public, path) in modules.uses(&module) {
                if public && let Some((from, name)) = path.rsplit_once("::") {
                    exported.insert(name.to_owned(), from.to_owned());
                }
            }
            modules.exported.insert(module, exported);
        }
        modules
    }

    /// Every `use` of a module as an absolute path, and whether it is passed on.
    fn uses(&self, module: &str) -> Vec<(bool, String)> {
        let mut found = Vec::new();
        for statement in self.texts[module].split(';') {
            let statement = statement.trim();
            let Some(start) = statement.rfind("use ").filter(|at| {
                let before = statement[..*at].trim_end();
                before.is_empty() || before.ends_with("pub") || before.ends_with(')') || before.ends_with('}')
            }) else {
                continue;
            };
            let public = statement[..start].trim_end().ends_with("pub");
            let mut paths = Vec::new();
            expand("", &statement[start + 4..], &mut paths);
            found.extend(paths.into_iter().filter_map(|path| Some((public, self.absolute(module, &path)?))));
        }
        found
    }

    /// A path from the crate's root; none for other crates.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        if let Some(path) = path.strip_prefix("crate::") {
            return Some(path.to_owned());
        }
        if path.starts_with("super::") {
            let (mut base, mut rest) = (module.to_owned(), path);
            while let Some(next) = rest.strip_prefix("super::") {
                base = base.rsplit_once("::").map(|(parent, _)| parent.to_owned()).unwrap_or_default();
                rest = next;
            }
            return Some(format!("{base}::{rest}"));
        }
        let first = path.split("::").next()?;
        let child = format!("{module}::{first}");
        self.texts.contains_key(&child).then(|| format!("{module}::{path}"))
    }

    /// The module that defines what a path names.
    fn definer(&self, path: &str) -> Option<String> {
        if self.texts.contains_key(path) {
            return Some(path.to_owned());
        }
        let (module, name) = path.rsplit_once("::")?;
        match self.exported.get(module).and_then(|exported| exported.get(name)) {
            Some(from) => self.definer(&format!("{from}::{name}")),
            None => self.definer(module),
        }
    }

    /// The modules that a module uses: by `use`, and by paths in its text.
    fn used_by(&self, module: &str) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        // What is passed on is not used.
        used.extend(self.uses(module).iter().filter(|(public, _)| !public).filter_map(|(_, path)| self.definer(path)));
        for word in ["crate::", "super::"] {
            for (at, _) in self.texts[module].match_indices(word) {
                let text = &self.texts[module];
                let before = text[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == ':' || c == '_') {
                    continue;
                }
                let line = text[..at].rsplit('\n').next().unwrap();
                if line.contains("use ") {
                    continue;
                }
                let path: String =
                    text[at..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                let path = self.absolute(module, path.trim_end_matches(':'));
                used.extend(path.and_then(|path| self.definer(&path)));
            }
        }
        // Paths that begin with a child: `child::name`.
        let prefix = format!("{module}::");
        let children = self.texts.keys().filter_map(|other| other.strip_prefix(&prefix));
        for child in children.filter(|child| !child.contains("::")) {
            let code = self.texts[module].lines().filter(|line| !line.contains("use "));
            let names = |line: &str| {
                line.match_indices(&format!("{child}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != ':' && c != '_')
                })
            };
            if code.into_iter().any(names) {
                used.insert(format!("{prefix}{child}"));
            }
        }
        used.remove(module);
        used
    }
}

/// Expands `a::{b, c::{d, e}}` into its paths.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        found.push(format!("{prefix}{path}").trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inside = tree[open + 1..].trim_end().trim_end_matches('}');
    let inside = if tree.matches('{').count() > 1 { &tree[open + 1..tree.rfind('}').unwrap()] } else { inside };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inside[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inside[start..].trim().is_empty() {
        expand(&prefix, &inside[start..], found);
    }
}

/// Groups of modules that reach each other.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = next.pop() {
            for used in graph.get(&module).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|module| (module, reach(module))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (module, all) in &reached {
        let circle: BTreeSet<String> =
            all.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(*module))).cloned().collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn no_circles() {
    // The test finds a circle where there is one, through a name that is passed on.
    let passed_on = Modules {
        texts: BTreeMap::from(
            [("r", "mod a; mod b;\npub use a::A;"), ("r::a", "use super::b::{B, C};"), ("r::b", "use super::A;")]
                .map(|(module, text)| (module.to_owned(), text.to_owned())),
        ),
        exported: BTreeMap::from([("r".to_owned(), BTreeMap::from([("A".to_owned(), "r::a".to_owned())]))]),
    };
    assert_eq!(passed_on.used_by("r::b"), BTreeSet::from(["r::a".to_owned()]));
    assert_eq!(passed_on.used_by("r::a"), BTreeSet::from(["r::b".to_owned()]));

    let modules = Modules::read();
    let graph = modules.texts.keys().map(|module| (module.clone(), modules.used_by(module))).collect();
    let found = circles(&graph);
    assert!(found.is_empty(), "modules that use each other: {found:#?}");
}

#[test]
fn types_are_small() {
    let mut wrong = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("src/")) {
        let text = without_comments(without_tests(&text));
        for part in text.split("struct ").skip(1) {
            let kind = part.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let Some(body) = part.split_once('{').filter(|(head, _)| !head.contains(';') && !head.contains('(')) else {
                continue;
            };
            let fields = body.1.split("\n}").next().unwrap();
            let field = |line: &&str| {
                let line = line.strip_prefix("    ").unwrap_or_default();
                !line.starts_with([' ', '#', '}']) && line.contains(": ")
            };
            let count = fields.lines().filter(field).count();
            if count > FIELDS_MAX && !WIDER.iter().any(|(known, _)| *known == kind) {
                wrong.push(format!("{name}: {kind} has {count} fields"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_is_in_the_list() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed, ROOMS);
}

#[test]
fn the_pure_rooms_know_no_outside() {
    let last = ROOMS.iter().position(|room| *room == LAST_PURE).unwrap();
    let forbidden =
        ["tokio", "axum", "rusqlite", "reqwest", "hyper", "std::fs", "std::net", "std::process", "std::env", "tracing"];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if room(&name).is_some_and(|own| own <= last) && !name.ends_with("tests.rs") {
            let text = without_tests(&text);
            wrong.extend(
                forbidden
                    .iter()
                    .filter(|word| text.contains(&format!("{word}::")) || text.contains(&format!("use {word}")))
                    .map(|word| format!("{name}: {word}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_use_cases_commit() {
    for (name, text) in sources() {
        let commits = text.contains(".commit(") && !COMMITS.iter().any(|prefix| name.starts_with(prefix));
        assert!(!commits, "{name} changes state");
    }
}

#[test]
fn files_are_short() {
    for (name, text) in sources() {
        let max = LONGER.iter().find(|(known, ..)| *known == name).map_or(LINES_MAX, |(_, max, _)| *max);
        assert!(text.lines().count() <= max, "{name} has {} lines, more than {max}", text.lines().count());
    }
}

#[test]
fn nothing_is_left_open() {
    for (name, text) in sources() {
        for word in ["TO\x44O", "FIX\x4dE", "XX\x58", "todo\x21(", "unimplemented\x21("] {
            assert!(!text.contains(word), "{name} holds {word}");
        }
    }
}
