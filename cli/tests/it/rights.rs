//! What each service's role may do, object by object, against a list that a person has looked at.

use std::{collections::BTreeSet, path::Path};

use hospital_testkit::TestDb;
use tokio_postgres::error::SqlState;

use crate::isolation::{SERVICES, connect, connect_owner, migrated};

/// Every table, view, sequence and function that a service's role can reach at all, with what the role may do with it: on
/// the whole, and with single columns. Partitions are one line, since they are made month by month.
const WALK: &str = "
    WITH object AS (
        SELECT c.oid, n.nspname AS schema,
               CASE WHEN c.relispartition THEN (SELECT p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
                                                WHERE i.inhrelid = c.oid) || ' (a partition)'
                    ELSE c.relname END AS name, c.relkind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND has_schema_privilege($1, n.oid, 'USAGE')
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ), whole AS (
        SELECT o.schema || '.' || o.name AS line, p.may
        FROM object o, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (may)
        WHERE o.relkind <> 'S' AND has_table_privilege($1, o.oid, p.may)
        UNION ALL
        SELECT o.schema || '.' || o.name, p.may
        FROM object o, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p (may)
        WHERE o.relkind = 'S' AND has_sequence_privilege($1, o.oid, p.may)
        UNION ALL
        SELECT o.schema || '.' || o.name, p.may || ' (' || string_agg(a.attname, ', ' ORDER BY a.attnum) || ')'
        FROM object o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped,
             unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p (may)
        WHERE o.relkind <> 'S' AND NOT has_table_privilege($1, o.oid, p.may)
          AND has_column_privilege($1, o.oid, a.attnum, p.may)
        GROUP BY o.schema, o.name, o.oid, p.may
        UNION ALL
        SELECT n.nspname || '.' || f.proname || '()', 'EXECUTE' || CASE WHEN f.prosecdef THEN ' as the owner' ELSE '' END
        FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND has_schema_privilege($1, n.oid, 'USAGE')
          AND has_function_privilege($1, f.oid, 'EXECUTE')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = f.oid AND d.deptype = 'e')
        UNION ALL
        -- Which rows of it.
        SELECT schemaname || '.' || tablename, 'policy ' || cmd || coalesce(' of ' || qual, '') || coalesce(' to ' || with_check, '')
        FROM pg_policies WHERE has_schema_privilege($1, schemaname, 'USAGE')
        UNION ALL
        SELECT n.nspname, p.may FROM pg_namespace n, unnest(ARRAY['USAGE', 'CREATE']) AS p (may)
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege($1, n.oid, p.may)
    )
    SELECT line || ': ' || string_agg(DISTINCT may, ', ' ORDER BY may) FROM whole GROUP BY line, (may ~ '^policy') ORDER BY 1";

async fn walked(db: &TestDb) -> BTreeSet<String> {
    let owner = connect_owner(db).await;
    let mut all = BTreeSet::new();
    for service in SERVICES {
        let role = format!("hospital_{service}");
        for row in owner.query(WALK, &[&role]).await.unwrap() {
            let line: String = row.get(0);
            // On the bus all of them may do the same; in its own schema each is alone.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            all.insert(if line.starts_with(service) { line } else { format!("all: {line}") });
        }
    }
    all
}

#[tokio::test]
async fn a_service_s_role_may_do_what_the_list_says_and_nothing_else() {
    let db = migrated().await;
    let found = walked(&db).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rights.txt");
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    let listed: BTreeSet<String> =
        listed.lines().filter(|l| !l.starts_with('#')).map(ToOwned::to_owned).collect();
    let lines = |of: &BTreeSet<String>, less: &BTreeSet<String>| -> String {
        of.difference(less).map(|line| format!("{line}\n")).collect()
    };
    let (more, less) = (lines(&found, &listed), lines(&listed, &found));
    assert!(
        more.is_empty() && less.is_empty(),
        "Decide what the service may do with it (`rights` of its `schema()`), and write that into {}.\n\
         Found and not listed:\n{more}Listed and not found:\n{less}",
        path.display()
    );
}

#[tokio::test]
async fn what_is_append_only_is_so_for_the_service_itself_partitions_of_next_year_included() {
    let db = migrated().await;
    let owner = connect_owner(&db).await;
    for service in SERVICES {
        // One that the service has made, as each month.
        owner.batch_execute(&drop_months(service)).await.unwrap();
        let client = connect(&db, service).await;
        for ahead in [0, 1, 12] {
            let month = format!("(now() + interval '{ahead} months')::date");
            let made = format!("SELECT {service}.outbox_add_month({month})");
            client.batch_execute(&made).await.unwrap();
        }
        let partitions = owner
            .query(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = ($1::text || '.outbox')::regclass",
                &[&service],
            )
            .await
            .unwrap();
        assert!(partitions.len() > 2, "{service} has partitions");
        let partitions = partitions.iter().map(|row| row.get::<_, String>(0));
        let own = match service {
            "appointment" => vec!["history", "practitioner"],
            "billing" => vec!["bill_line", "cancelled_appointment"],
            "patient" => vec!["patient_history"],
            _ => vec![],
        };
        let own = own.into_iter().map(ToOwned::to_owned);
        for table in partitions.chain(own).chain(["outbox".to_owned()]) {
            let name = format!("{service}.{table}");
            let first = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1";
            let row = owner.query_one(first, &[&name]).await.unwrap();
            let column: String = row.get(0);
            for sql in [
                format!("UPDATE {name} SET {column} = {column}"),
                format!("DELETE FROM {name}"),
                format!("TRUNCATE {name}"),
            ] {
                let refused = client.batch_execute(&sql).await.expect_err(&sql);
                assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}");
            }
        }
    }
}

fn drop_months(service: &str) -> String {
    format!(
        "DO $$ DECLARE old record; BEGIN
             FOR old IN SELECT relname FROM pg_class WHERE relnamespace = '{service}'::regnamespace AND relname ~ '^outbox_[0-9]+$' AND relkind = 'r'
             LOOP EXECUTE 'DROP TABLE {service}.' || old.relname; END LOOP; END $$"
    )
}

/// What an older version granted is taken back, also of partitions that are there.
#[tokio::test]
async fn rights_that_were_given_before_are_taken_back_by_the_next_migration() {
    let db = migrated().await;
    let before = walked(&db).await;
    let owner = connect_owner(&db).await;
    for service in SERVICES {
        owner
            .batch_execute(&format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {service} TO hospital_{service};
                 GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {service} TO hospital_{service};
                 GRANT ALL ON ALL TABLES IN SCHEMA bus TO hospital_{service};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA {service} GRANT UPDATE, DELETE ON TABLES TO hospital_{service}"
            ))
            .await
            .unwrap();
    }
    assert_ne!(walked(&db).await, before);
    crate::isolation::migrate(&db);
    assert_eq!(walked(&db).await, before);
    for service in SERVICES {
        owner.batch_execute(&format!("CREATE TABLE {service}.later (x int)")).await.unwrap();
        let client = connect(&db, service).await;
        client.batch_execute(&format!("INSERT INTO {service}.later VALUES (1)")).await.unwrap();
        let changed = client.batch_execute(&format!("UPDATE {service}.later SET x = 2")).await;
        assert!(changed.is_err(), "{service}: new tables are append-only until something is said");
    }
}
