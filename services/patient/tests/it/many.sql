-- $many patients whose names are as common as names are. Of a hundred one is a Lukasz, two are Nowak, and a fifth of the Lukasz are;
-- beside sixty other common names there are thousands of rare ones; one in ten has a second given name. Of a hundred birth dates one
-- is known to the year, one to the month. Thousands are called Ewa, of whom nearly all are inactive, as are those born in 1925;
-- thousands have the birth date that was typed for who did not know it, and thousands the phone number of a home.
SET session_replication_role = replica;
SET search_path = patient;
SET work_mem = '64MB';

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
                     folded, words, entries)
SELECT md5(i::text)::uuid, 1, status, g, f, birth, exact, 'female',
       '+1617' || CASE WHEN i % greatest(10, $many / 2000) = 7 THEN 9999999 ELSE 1000000 + i END, now(), now(), '1/' || g || '/' || f,
       (SELECT string_agg(' ' || word, '' ORDER BY word COLLATE "C") FROM (SELECT DISTINCT unnest(gs || fs) AS word) AS words)
       || coalesce((SELECT string_agg(E'\t' || together, '' ORDER BY entry COLLATE "C")
                    FROM (SELECT DISTINCT array_to_string(name, '') AS together, name[1] || ' ' || array_to_string(name[2:], '') AS entry
                          FROM (VALUES (gs), (gs || fs), (fs || gs)) AS names (name) WHERE cardinality(name) > 1) AS names
                    WHERE together <> ALL (gs || fs)), ''),
       '2/' || g || '/' || f || '/' || (birth - date '0001-01-01') || exact || '/' || status
FROM (SELECT i, g, f, string_to_array(lower(g), ' ') AS gs, ARRAY[lower(f)] AS fs, birth, exact,
             CASE WHEN i % 1000 = 0 OR (g = 'Ewa' OR birth BETWEEN '1925-01-01' AND '1925-12-31') AND i % 10000 <> 5
                  THEN 'inactive' ELSE 'active' END AS status
      FROM (SELECT i, CASE WHEN i % 100 = 0 THEN 'Lukasz' WHEN i % often = 5 THEN 'Ewa'
                             ELSE given.name || coalesce(' ' || second.name, '') END AS g,
                   CASE WHEN i % 500 = 0 OR (i % 100 <> 0 AND even(i, 3) < 0.018) THEN 'Nowak' ELSE family.name END AS f,
                   CASE WHEN i % often = 3 THEN date '1900-01-01'
                        ELSE date_trunc(exact, date '1920-01-01' + (even(i, 4) * 36500)::int)::date END AS birth, exact
            FROM (SELECT i, often, 1 + floor(5030 * power(even(i, 1), 3))::bigint AS g, 1 + floor(30030 * power(even(i, 2), 3))::bigint AS f,
                         CASE WHEN even(i, 6) < 0.1 THEN 1 + floor(5030 * power(even(i, 7), 3))::bigint END AS s,
                         CASE WHEN i % often = 3 THEN 'day' WHEN even(i, 5) < 0.01 THEN 'year' WHEN even(i, 5) < 0.02 THEN 'month'
                              ELSE 'day' END AS exact
                  FROM generate_series(1, $many) AS i CROSS JOIN (SELECT greatest(10, least(100, $many / 10000))) AS one_in (often)) AS numbers
            JOIN given ON given.n = g JOIN family ON family.n = f LEFT JOIN given AS second ON second.n = s) AS people) AS people;
INSERT INTO patient_identifier SELECT md5(i::text)::uuid, 'urn:x', '+1617' || 1000000 + i FROM generate_series(1, $many) AS i;

-- What the service itself would make of them, which takes long for a million: the test compares some.
INSERT INTO patient_name (patient_id, word, words, born, born_month, born_day, inactive)
SELECT DISTINCT id, entry.word COLLATE "C", CASE WHEN entry.of_several THEN ' ' || array_to_string(every, ' ') END,
       CASE WHEN entry.searched THEN extract(year FROM birth_date)::integer END,
       CASE WHEN birth_precision = 'year' THEN 0 ELSE extract(month FROM birth_date)::integer END,
       CASE WHEN birth_precision = 'day' THEN extract(day FROM birth_date)::integer ELSE 0 END,
       CASE WHEN entry.searched THEN status = 'inactive' END
FROM (SELECT p.*, g || f AS gf, f || g AS fg, array(SELECT DISTINCT unnest(g || f) ORDER BY 1) AS every
      FROM (SELECT p.*, string_to_array(lower(given_name) COLLATE "C", ' ') AS g, ARRAY[lower(family_name) COLLATE "C"] AS f
            FROM patient p) AS p) AS p
CROSS JOIN LATERAL (
    SELECT unnest(every), false, true
    UNION ALL SELECT format('  %s %s', least(a, b), greatest(a, b)), false, false FROM (SELECT array_to_string(g, '') AS a, f[1] AS b) AS _
    UNION ALL SELECT format(' %s %s', left(a, 1), w), true, true FROM unnest(every) AS w, unnest(every) AS a WHERE a <> w
    UNION ALL SELECT format(' %s%s %s', least(left(a, 1), left(b, 1)), greatest(left(a, 1), left(b, 1)), w), true, true
              FROM unnest(every) AS w, unnest(every) AS a, unnest(every) AS b WHERE a <> w AND b <> w AND a < b
    UNION ALL SELECT format(E'\t%s %s', name[1], array_to_string(name[2:], '')), true, true
              FROM (VALUES (g), (gf), (fg)) AS names (name)
              WHERE cardinality(name) > 1 AND array_to_string(name, '') <> ALL (every)) AS entry (word, of_several, searched);
