//! The storeys of the house, as `config/layers.toml` has them.
//!
//! Every path in the sources outside of tests is resolved to the file that it names. Then: no arrow runs up, siblings
//! know each other only where that is written down, files do not use each other in a circle, names of the platform stay
//! in their room. A failure names the file and line, the arrow and the rule.
//!
//! Limits: a path is what the text says. What comes by a re-export counts as a use of the file that re-exports it; a
//! module root that re-exports its own children does not use them by that.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use serde::Deserialize;
use syn::visit::{self, Visit};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    storeys: Vec<Vec<String>>,
    platform: Platform,
    siblings: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    room: String,
    names: Vec<String>,
}

/// A use of one file by another, or of a name that is not ours.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    line: usize,
    to: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "src/{}:{} uses {}", self.from, self.line, self.to)
    }
}

/// What the sources say: arrows between files of ours, and names of others.
#[derive(Default)]
struct House {
    files: BTreeSet<String>,
    arrows: BTreeSet<Arrow>,
    foreign: BTreeSet<Arrow>,
}

/// The file of each module, by its path.
type Modules = BTreeMap<Vec<String>, String>;

impl House {
    fn read(root: &Path) -> Self {
        let mut sources = BTreeMap::new();
        read_below(root, root, &mut sources);
        let mut modules = Modules::new();
        for name in sources.keys() {
            modules.insert(module_of(name), name.clone());
        }
        let tests = modules_for_tests(&sources);
        let is_for_tests = |module: &[String]| tests.iter().any(|test| module.starts_with(test));
        modules.retain(|module, _| !is_for_tests(module));
        let mut house = Self::default();
        for (module, name) in &modules {
            let mut reader = Reader { name, module: module.clone(), modules: &modules, house: &mut house };
            reader.visit_file(&sources[name]);
            house.files.insert(name.clone());
        }
        house
    }

    /// Files that use each other in a circle.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in &self.arrows {
            uses.entry(&arrow.from).or_default().insert(&arrow.to);
        }
        let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in &self.files {
            let mut seen = BTreeSet::new();
            let mut next = vec![file.as_str()];
            while let Some(at) = next.pop() {
                next.extend(uses.get(at).into_iter().flatten().filter(|&&to| seen.insert(to)));
            }
            reach.insert(file, seen);
        }
        let mut circles = BTreeSet::new();
        for (file, seen) in &reach {
            let circle: Vec<_> =
                seen.iter().filter(|other| reach[*other].contains(file)).map(|&other| other.to_owned()).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }
}

fn read_below(root: &Path, directory: &Path, sources: &mut BTreeMap<String, syn::File>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            read_below(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let parsed = syn::parse_file(&fs::read_to_string(&path).unwrap());
            sources.insert(name.clone(), parsed.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are the module `a::b`; the roots are modules without a name of their own.
fn module_of(name: &str) -> Vec<String> {
    let stem = name.strip_suffix(".rs").unwrap();
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" => Vec::new(),
        _ => stem.split('/').map(str::to_owned).collect(),
    }
}

fn modules_for_tests(sources: &BTreeMap<String, syn::File>) -> Vec<Vec<String>> {
    let mut tests = Vec::new();
    for (name, file) in sources {
        for item in &file.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
                && is_test(&module.attrs)
            {
                let mut path = module_of(name);
                path.push(module.ident.to_string());
                tests.push(path);
            }
        }
    }
    tests
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text == "test" || text.starts_with("all (test") || text.starts_with("all(test")
        }
        _ => false,
    })
}

struct Reader<'a> {
    name: &'a str,
    /// Where the text is that is being read: the file's module, and modules inside of it.
    module: Vec<String>,
    modules: &'a Modules,
    house: &'a mut House,
}

impl Reader<'_> {
    fn note(&mut self, path: &[String], at: Span) {
        let mut base = self.module.clone();
        let rest = match path[0].as_str() {
            "crate" => {
                base.clear();
                &path[1..]
            }
            "fm_watch" if self.name == "main.rs" => {
                base.clear();
                &path[1..]
            }
            "self" => &path[1..],
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                base.truncate(base.len() - ups);
                &path[ups..]
            }
            first if self.modules.contains_key(&[base.clone(), vec![first.to_owned()]].concat()) => path,
            _ => return self.note_foreign(path, at),
        };
        base.extend(rest.iter().cloned());
        let to = (0..=base.len()).rev().find_map(|length| self.modules.get(&base[..length]));
        if let Some(to) = to.filter(|to| *to != self.name) {
            let arrow = Arrow { from: self.name.to_owned(), line: at.start().line, to: to.clone() };
            self.house.arrows.insert(arrow);
        }
    }

    fn note_foreign(&mut self, path: &[String], at: Span) {
        let arrow = Arrow { from: self.name.to_owned(), line: at.start().line, to: path.join("::") };
        self.house.foreign.insert(arrow);
    }

    fn note_tree(&mut self, before: &[String], tree: &syn::UseTree, at: Span) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree, at),
            syn::UseTree::Name(name) => self.note(&with(&name.ident), at),
            syn::UseTree::Rename(rename) => self.note(&with(&rename.ident), at),
            syn::UseTree::Glob(_) => self.note(before, at),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree, at)),
        }
    }

    /// Paths in the arguments of a macro, which have no grammar of their own.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut at = Span::call_site();
        for token in tokens {
            match &token {
                TokenTree::Ident(word) if path.is_empty() || colons == 2 => {
                    if path.is_empty() {
                        at = word.span();
                    }
                    path.push(word.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                _ => {}
            }
            if path.len() > 1 {
                self.note(&std::mem::take(&mut path), at);
            }
            path.clear();
            colons = 0;
            if let TokenTree::Ident(word) = &token {
                at = word.span();
                path.push(word.to_string());
            }
        }
        if path.len() > 1 {
            self.note(&path, at);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let at = syn::spanned::Spanned::span(&item.tree);
        if !matches!(item.vis, syn::Visibility::Inherited) && self.re_exports_its_own(&item.tree) {
            return;
        }
        self.note_tree(&[], &item.tree, at);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.note(&segments, syn::spanned::Spanned::span(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.note_tokens(item.tokens.clone());
    }
}

impl Reader<'_> {
    fn re_exports_its_own(&self, tree: &syn::UseTree) -> bool {
        let syn::UseTree::Path(path) = tree else { return false };
        let first = path.ident.to_string();
        first == "self" || self.modules.contains_key(&[self.module.clone(), vec![first]].concat())
    }
}

fn layers() -> Layers {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/layers.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn house() -> House {
    House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// What is wrong with an arrow, if anything is.
fn fault(layers: &Layers, from: &str, to: &str) -> Option<String> {
    let storey = |room: &str| layers.storeys.iter().position(|rooms| rooms.iter().any(|name| name == room));
    let (from, to) = (room(from), room(to));
    let (Some(here), Some(there)) = (storey(from), storey(to)) else {
        return Some(format!("{from} or {to} stands in no storey"));
    };
    let knows = || layers.siblings.get(from).is_some_and(|others| others.iter().any(|other| other == to));
    match here.cmp(&there) {
        _ if from == to => None,
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Less => Some(format!("{from} (storey {here}) stands below {to} (storey {there})")),
        std::cmp::Ordering::Equal if knows() => None,
        std::cmp::Ordering::Equal => Some(format!("{from} is a sibling that may not know {to}")),
    }
}

/// Fails with every fault at once.
#[track_caller]
fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule} ({} faults):\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn arrows_run_down_only() {
    let (layers, house) = (layers(), house());
    let faults: Vec<_> = house
        .arrows
        .iter()
        .filter_map(|arrow| fault(&layers, &arrow.from, &arrow.to).map(|why| format!("{arrow}: {why}")))
        .collect();
    assert_none(&faults, "arrows run down only, see config/layers.toml");
}

#[test]
fn an_arrow_up_is_seen() {
    let layers = layers();
    assert!(fault(&layers, "lock/mod.rs", "watcher/mod.rs").is_some());
    assert!(fault(&layers, "watcher/mod.rs", "hooks/mod.rs").is_some(), "siblings that may not know each other");
    assert!(fault(&layers, "watcher/mod.rs", "lock/mod.rs").is_none());
    assert!(fault(&layers, "nowhere/mod.rs", "lock/mod.rs").is_some());
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles: Vec<_> = house().circles().iter().map(|circle| circle.join(", ")).collect();
    assert_none(&circles, "files use each other in a circle");
}

#[test]
fn names_of_the_platform_stay_in_their_room() {
    let (layers, house) = (layers(), house());
    let Platform { room: home, names } = &layers.platform;
    let faults: Vec<_> = house
        .foreign
        .iter()
        .filter(|arrow| room(&arrow.from) != home)
        .filter(|arrow| names.iter().any(|name| arrow.to == *name || arrow.to.starts_with(&format!("{name}::"))))
        .map(|arrow| format!("{arrow}, which only {home} may"))
        .collect();
    assert_none(&faults, "names of the platform stay in their room");
}
