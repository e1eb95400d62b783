-- $many patients whose names are as common as names are. Of a hundred one is a Lukasz, two are Nowak, and a fifth of the Lukasz are;
-- beside sixty other common names there are thousands of rare ones. Of a hundred birth dates one is known to the year, one to the
-- month.
SET session_replication_role = replica;
SET search_path = patient;

CREATE FUNCTION even(number bigint, seed bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT (hashint8extended(number, seed) & 1073741823) / 1073741824.0 $$;
-- A rare name: as many syllables as there are letters in `begins`, and what it ends with.
CREATE FUNCTION rare(number bigint, ends text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT initcap(string_agg(substr('bcdfghjklmnprstvz', 1 + (even(number, s) * 17)::int % 17, 1)
                          || substr('aeiouy', 1 + (even(number, s + 10) * 6)::int % 6, 1), '' ORDER BY s)
                  || substr(ends, 1 + (even(number, 20) * length(ends))::int % length(ends), 1))
   FROM generate_series(1, 3) AS s $$;

CREATE TEMPORARY TABLE given AS
SELECT row_number() OVER () AS n, name FROM (
    SELECT unnest('{Anna,Maria,Li,John,Wei,Amina,Olga,Juan,Kim,Lisa,Lina,Jose,Ann,Peter,Mohamed,Fatima,Ivan,Zoe,Liam,Noah,Emma,
                    Olivia,James,Mary,Robert,Patricia,David,Linda,Susan,Karen}'::text[]) AS name
    UNION ALL SELECT rare(i, 'aeo') FROM generate_series(1, 5000) AS i) AS names;
CREATE TEMPORARY TABLE family AS
SELECT row_number() OVER () AS n, name FROM (
    SELECT unnest('{Garcia,Smith,Lee,Li,Wang,Singh,Ivanov,Kim,Ling,Silva,Ali,Cohen,Rossi,Nguyen,Jones,Sato,Lin,Weiss,Muller,Johnson,
                    Williams,Brown,Davis,Miller,Wilson,Moore,Taylor,Lopez,Gonzalez,Hernandez}'::text[]) AS name
    UNION ALL SELECT rare(i, 'nrsvz') FROM generate_series(5001, 35000) AS i) AS names;
ANALYZE given, family;

INSERT INTO patient (id, version, status, given_name, family_name, birth_date, birth_precision, gender, phone, created_at, updated_at,
                     folded, entries)
SELECT md5(i::text)::uuid, 1, status, g, f, birth, exact, 'female', '+1617' || 1000000 + i, now(), now(), '1/' || g || '/' || f,
       '2/' || g || '/' || f || '/' || (birth - date '0001-01-01') || exact || '/' || status
FROM (SELECT i, CASE WHEN i % 1000 = 0 THEN 'inactive' ELSE 'active' END AS status,
             CASE WHEN i % 100 = 0 THEN 'Lukasz' ELSE given.name END AS g,
             CASE WHEN i % 500 = 0 OR (i % 100 <> 0 AND even(i, 3) < 0.018) THEN 'Nowak' ELSE family.name END AS f,
             date_trunc(exact, date '1920-01-01' + (even(i, 4) * 36500)::int)::date AS birth, exact
      FROM (SELECT i, 1 + floor(5030 * power(even(i, 1), 3))::bigint AS g, 1 + floor(30030 * power(even(i, 2), 3))::bigint AS f,
                   CASE WHEN even(i, 5) < 0.01 THEN 'year' WHEN even(i, 5) < 0.02 THEN 'month' ELSE 'day' END AS exact
            FROM generate_series(1, $many) AS i) AS numbers
      JOIN given ON given.n = g JOIN family ON family.n = f) AS people;
INSERT INTO patient_identifier SELECT id, 'urn:x', phone FROM patient;

-- What the service itself would make of them, which takes long for a million: the test compares some.
INSERT INTO patient_name (patient_id, word, words, born, born_month, inactive)
SELECT DISTINCT id, entries.word, entries.words, CASE WHEN entries.word NOT LIKE '  %' THEN born END, month, inactive
FROM (SELECT id, g, f, born, month, inactive, CASE WHEN g = f THEN ' ' || g ELSE format(' %s %s', least(g, f), greatest(g, f)) END AS words
      FROM (SELECT id, lower(given_name) COLLATE "C" AS g, lower(family_name) COLLATE "C" AS f,
                   extract(year FROM birth_date)::integer AS born,
                   CASE WHEN birth_precision = 'year' THEN 0 ELSE extract(month FROM birth_date)::integer END AS month,
                   status = 'inactive' AS inactive FROM patient) AS p) AS p
CROSS JOIN LATERAL (
    VALUES (g, NULL), (f, NULL), (g || f, p.words), (f || g, p.words), (format('  %s %s', least(g, f), greatest(g, f)), NULL),
           (CASE WHEN g <> f THEN format(' %s %s', left(g, 1), f) END, p.words),
           (CASE WHEN g <> f THEN format(' %s %s', left(f, 1), g) END, p.words)) AS entries (word, words)
WHERE entries.word IS NOT NULL;
