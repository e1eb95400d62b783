use std::path::Path;

/// Every test that the list names exists, in the file that it names, and is a test.
#[test]
fn what_was_seen_elsewhere_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let list = std::fs::read_to_string(root.join("docs/reliability-seen.md")).unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 31, "what was seen");
    for row in rows {
        let cell = row.rsplit("| ").next().unwrap();
        let mut named = cell.split('`').skip(1).step_by(2);
        let file = named.next().unwrap_or_else(|| panic!("no file in {row}"));
        let text = std::fs::read_to_string(root.join(file))
            .unwrap_or_else(|e| panic!("{file} of {row}: {e}"));
        let tests: Vec<&str> = named.collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for test in tests {
            let at = text.find(&format!("async fn {test}()"));
            let at = at.unwrap_or_else(|| panic!("{file} has no {test}"));
            let before: Vec<&str> = text[..at].lines().rev().take(3).collect();
            assert!(before.iter().any(|line| line.starts_with("#[tokio::test")), "{test}");
        }
    }
}
