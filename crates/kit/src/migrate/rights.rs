//! What a service's role may do with the tables of its schema: read them and add to them, and
//! change or remove rows only where that is declared. What is append-only is so by construction,
//! partitions that are made later included.

use std::fmt::Write as _;

use tokio_postgres::{Client, Error};

/// What a service may do with its tables beyond reading them and adding to them: `("bill", "UPDATE")`
/// or `("dispatch", "DELETE, UPDATE")`. A partitioned table speaks for its partitions, which are
/// worked on through it. Tables that are not named are append-only. A sequence from which the service
/// takes numbers itself has `USAGE`; those of identity columns need no right.
///
/// A migration that puts a new table in the place of one that the version before still works on
/// grants what that version needs itself: these rights follow when all migrations are through.
pub type Rights = &'static [(&'static str, &'static str)];

/// The rights of every service to what every schema has. Each list is in the order of the alphabet.
const PLUMBING: [(&str, &str); 10] = [
    ("dead_letter", "INSERT, SELECT, UPDATE"),
    ("idempotency", "DELETE, INSERT, SELECT, UPDATE"),
    // What waits behind a dead letter was not received yet.
    ("inbox", "DELETE, INSERT, SELECT"),
    // What people did is written by who may write it, and what was migrated by who migrates.
    ("intervention", "SELECT"),
    ("job", "DELETE, INSERT, SELECT, UPDATE"),
    // Written by the functions that remove what is past retention.
    ("kept_since", "SELECT"),
    ("maintenance", "SELECT"),
    ("migration_history", "SELECT"),
    ("outbox_relay", "SELECT, UPDATE"),
    ("plumbing_history", "SELECT"),
];

/// New tables, and new partitions, are append-only until something else is said of them.
pub(super) async fn set_defaults(client: &Client, schema: &str) -> Result<(), Error> {
    client
        .batch_execute(&format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
                 REVOKE ALL ON TABLES FROM hospital_{schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
                 GRANT INSERT, SELECT ON TABLES TO hospital_{schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
                 REVOKE ALL ON SEQUENCES FROM hospital_{schema}"
        ))
        .await
}

/// Brings the rights to everything in the schema to what is declared. Leaves alone what is as it
/// should be, so that a service at work meets no change of its catalogue.
pub(super) async fn apply(client: &Client, schema: &str, rights: Rights) -> Result<(), Error> {
    let mut declared = String::new();
    for (table, may) in PLUMBING {
        write!(declared, "('{table}', '{may}'), ").expect("a String takes everything");
    }
    for (table, more) in rights {
        // What a table's rows are, a sequence's numbers are not: they are only taken.
        let rows: &[&str] = if *more == "USAGE" { &[] } else { &["INSERT", "SELECT"] };
        let mut may: Vec<&str> = more.split(", ").chain(rows.iter().copied()).collect();
        may.sort_unstable();
        write!(declared, "('{table}', '{}'), ", may.join(", ")).expect("a String takes everything");
    }
    let declared = declared.trim_end_matches(", ");
    client
        .batch_execute(&format!(
            "DO $$
             DECLARE
                 one record;
             BEGIN
                 FOR one IN
                     SELECT * FROM (
                         SELECT format('%I.%I', n.nspname, c.relname) AS name,
                                CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
                                CASE WHEN c.relkind = 'S' THEN coalesce(d.may, '')
                                     WHEN c.relkind IN ('v', 'm') THEN 'SELECT'
                                     ELSE coalesce(d.may, 'INSERT, SELECT') END AS may,
                                coalesce((SELECT string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
                                          FROM aclexplode(c.relacl) a WHERE a.grantee = r.oid), '') AS had
                         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              JOIN pg_roles r ON r.rolname = 'hospital_{schema}'
                              LEFT JOIN (VALUES {declared}) AS d (name, may) ON d.name = c.relname
                         WHERE n.nspname = '{schema}' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
                     ) AS found WHERE had <> may ORDER BY name
                 LOOP
                     EXECUTE format('REVOKE ALL ON %s %s FROM hospital_{schema}', one.kind, one.name);
                     IF one.may <> '' THEN
                         EXECUTE format('GRANT %s ON %s %s TO hospital_{schema}', one.may, one.kind, one.name);
                     END IF;
                 END LOOP;
             END $$"
        ))
        .await
}
