//! What documents, code and tests say of each other: rules that are cited, invariants that are
//! checked, links.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::isolation::{connect_owner, migrated};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file with one of these extensions, with its text. What is built or hidden is left out.
fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "dist" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|one| e == *one)) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no {extensions:?}");
    found
}

fn rules() -> String {
    std::fs::read_to_string(root().join("docs/rules.md")).unwrap()
}

/// A capital letter and a number, such as `A2` or `I16`.
fn is_id(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|first| first.is_ascii_uppercase())
        && !chars.as_str().is_empty()
        && chars.all(|c| c.is_ascii_digit())
}

/// The ids of the headings (`### A2 …`) and of the table of invariants (`| I4 | …`).
fn rule_ids() -> BTreeSet<String> {
    let text = rules();
    let ids = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("### ").or_else(|| line.strip_prefix("| "))?;
        rest.split_whitespace().next().filter(|word| is_id(word))
    });
    ids.map(str::to_owned).collect()
}

/// The ids that stand at the beginning of a text: `A1 to A3), and so on` gives A1 and A3.
fn ids_at_the_start(text: &str) -> Vec<&str> {
    text.split([' ', ','])
        .map(|word| word.trim_end_matches([')', '.', ':', ';', '`']))
        .take_while(|word| is_id(word) || matches!(*word, "to" | "and" | ""))
        .filter(|word| is_id(word))
        .collect()
}

#[test]
fn every_rule_that_is_cited_exists() {
    const CITED: &str = "docs/rules.md, ";
    let known = rule_ids();
    assert!(known.len() > 60, "{known:?}");
    let mut cited = 0;
    for (path, text) in files(&["rs", "sql", "md"]) {
        if path.ends_with("cli/tests/it/docs.rs") {
            continue;
        }
        for (at, _) in text.match_indices(CITED) {
            let line = text[at + CITED.len()..].lines().next().unwrap_or_default();
            let ids = ids_at_the_start(line);
            assert!(!ids.is_empty(), "{}: no rule in {line:?}", path.display());
            for id in ids {
                assert!(known.contains(id), "{} cites {id}", path.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 0, "nothing cites a rule");
}

#[test]
fn every_invariant_that_is_checked_is_listed() {
    let known = rule_ids();
    let mut checked = BTreeSet::new();
    for (path, text) in files(&["rs"]) {
        if path.starts_with(root().join("cli")) || path.starts_with(root().join("simulation")) {
            let quoted = text.split('"').filter(|word| word.starts_with('I') && is_id(word));
            checked.extend(quoted.map(str::to_owned));
        }
    }
    assert!(checked.len() > 15, "{checked:?}");
    let unlisted: Vec<_> = checked.difference(&known).collect();
    assert!(unlisted.is_empty(), "docs/rules.md does not list {unlisted:?}");
}

/// The fragment that a heading has on the web: small letters, hyphens for spaces, no punctuation.
fn fragment(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines outside of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut links = 0;
    for (path, text) in files(&["md"]) {
        let prose: String = prose(&text).map(|line| format!("{line}\n")).collect();
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.clone(),
                relative => path.parent().unwrap().join(relative),
            };
            assert!(file.exists(), "{} links to {target}", path.display());
            if anchor.is_empty() {
                continue;
            }
            let linked = std::fs::read_to_string(&file).unwrap();
            let found = linked.lines().filter(|line| line.starts_with('#')).map(fragment);
            assert!(
                found.into_iter().any(|one| one == anchor),
                "{} links to {target}, which has no such heading",
                path.display()
            );
        }
    }
    assert!(links > 30, "{links}");
}

/// A table's row cannot be broken, so it may be longer.
#[test]
fn documents_fit_into_a_hundred_columns() {
    for (path, text) in files(&["md"]) {
        for (place, line) in text.lines().enumerate() {
            let fits = line.starts_with('|') || line.chars().count() <= 100;
            assert!(fits, "{}:{}: {line}", path.display(), place + 1);
        }
    }
}

/// Names behind the word table, and behind `FROM` where they have a schema.
fn tables(text: &str) -> impl Iterator<Item = &str> {
    let behind = |word| text.split(word).skip(1).filter_map(|rest| Some(rest.split_once('`')?.0));
    let quoted = behind(" table `").chain(behind("(table `"));
    let is_name = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '.');
    let queried = text.split("FROM ").skip(1).map(move |rest| {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.')
    });
    quoted.chain(queried.filter(|name| name.contains('.')))
}

#[tokio::test]
async fn every_table_that_a_document_names_is_there() {
    let db = migrated().await;
    let owner = connect_owner(&db).await;
    let is_there = "SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v')
          AND $1::text IN (c.relname, n.nspname || '.' || c.relname))";
    let mut named = 0;
    for (document, text) in files(&["md"]) {
        for table in tables(&text) {
            let found: bool = owner.query_one(is_there, &[&table]).await.unwrap().get(0);
            assert!(found, "{}: there is no table {table}", document.display());
            named += 1;
        }
    }
    assert!(named >= 3, "tables are found in the documents: {named}");
}
