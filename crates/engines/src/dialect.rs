//! Where the two databases differ: one SQL text per statement, turned into each one's own words.
//!
//! The shared subset and its reasons:
//! - `$1` placeholders. SQLite takes `$1` for a *name* and numbers names by first appearance, so they become `?1`.
//! - `::type` casts, for PostgreSQL to know a parameter's type; SQLite would change a BLOB by a cast, so they vanish.
//! - times are parameters, never `now()`: the clock is an argument, and SQLite's `now` is text.
//! - no ordering and no LIKE on user text: collations differ.
//! - `INSERT … SELECT … FROM {rows …}` needs `WHERE true` before `ON CONFLICT`: SQLite reads `ON` as a join else.
//!
//! Markers, each with its reason:
//! - `{rows r(id uuid, fence bigint)}`, where a table may stand: bulk input. PostgreSQL: `UNNEST` of one array per
//!   column, one round trip. SQLite: `VALUES` of 50 rows, of 5 or of one (`BULK`): a statement that may fail half way keeps a copy of each
//!   page that it changes, so that one row at a time would copy the same pages again and again. How rows are parted is nobody's to
//!   know, so such a statement must not depend on other rows of its batch.
//! - `{each r(id uuid)} (SELECT … {of r.id} … LIMIT $1) x`, where a table may stand: for each row of bulk input what the SELECT
//!   finds. PostgreSQL: `LATERAL`, one round trip. SQLite: the statement runs once per row.
//! - `JOIN {lookup t x ON x.id = y.t_id AND …}`: of another table the one row that is looked up for each row, by its key, which is the first
//!   condition; the others are checked behind it. PostgreSQL: `LATERAL`, since its statistics may say that reading the other table whole, or
//!   by another condition, is quicker, and be old. SQLite: a join.
//! - `{nil}`: the id that nothing has.
//! - `{for update}`, `{for update skip locked}`, `{for share}`: row locks; SQLite has one writer and needs none.
//! - `{any $3}`: membership in a list of ids.
//! - `{merge a, b}`: two JSON objects as one, `b` wins: `||` there, `json_patch` here.
//! - `{plus time, micros}`: a time so many microseconds later; times are no numbers on PostgreSQL. The number stands behind the
//!   last comma.
//! - `{hour time}`: the start of the hour (UTC) that a time lies in. `{domain email}`: what stands behind the `@`, in small letters.
//! - `{max a, b}` and `{min a, b}`: `GREATEST`/`LEAST` there, two-argument `max`/`min` here.
//! - in migrations: `{uuid}`, `{time}`, `{json}`, `{bool}`, `{strict}`, `{fillfactor 50}`, `{generated}`.
//!
//! To add a marker: an arm in `marker`, its reason above, and a case in the tests below.

use std::sync::OnceLock;

/// PostgreSQL's role of a tenant's transactions: row-level security shows it the rows of `TENANT_SETTING`'s tenant.
pub const APP_ROLE: &str = "penguinmails_app";
/// PostgreSQL's role of transactions over all tenants.
pub const SYSTEM_ROLE: &str = "penguinmails_system";
/// The setting that names a transaction's tenant; unset or empty means no tenant, and no rows.
pub const TENANT_SETTING: &str = "app.current_tenant_id";

/// A statement: its name for errors and its text in the shared subset.
pub struct Statement {
    /// The constant's name.
    pub name: &'static str,
    /// The text in the shared subset.
    pub text: &'static str,
    sqlite: [OnceLock<String>; BULK.len()],
    postgres: OnceLock<String>,
}

/// How many rows of bulk input SQLite takes at once: of what comes, first so many as often as it can, then as the next one says.
pub const BULK: [usize; 3] = [50, 5, 1];

impl Statement {
    /// Declares a statement; `statements!` does it with the constant's own name.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, sqlite: [const { OnceLock::new() }; BULK.len()], postgres: OnceLock::new() }
    }

    /// The texts for SQLite, each with how many rows of bulk input it takes: one for each of `BULK`, or for one row alone.
    pub(crate) fn sqlite(&self) -> impl Iterator<Item = (usize, &str)> {
        let least = if self.text.contains("{rows ") { 0 } else { BULK.len() - 1 };
        BULK.into_iter()
            .zip(&self.sqlite)
            .skip(least)
            .map(|(many, text)| (many, text.get_or_init(|| translate_for(self.text, Dialect::Sqlite, many)).as_str()))
    }

    /// The text for PostgreSQL.
    pub fn postgres(&self) -> &str {
        self.postgres.get_or_init(|| translate(self.text, Dialect::Postgres))
    }
}

/// Declares a file's statements and the list of them, so that the test that prepares every one cannot forget any.
#[macro_export]
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* static $name: $crate::dialect::Statement = $crate::dialect::Statement::new(stringify!($name), $text);)*
        /// Every statement of this file.
        pub(crate) static STATEMENTS: &[&$crate::dialect::Statement] = &[$(&$name),*];
    };
}

/// Which database a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// Turns a text in the shared subset into one database's own words. Braces and casts inside string literals stay.
pub fn translate(text: &str, dialect: Dialect) -> String {
    translate_for(text, dialect, 1)
}

/// The same for so many rows of bulk input, which only SQLite's text counts.
fn translate_for(text: &str, dialect: Dialect, many: usize) -> String {
    let scalars = highest_placeholder(text);
    let each = text.split_once("{each ").and_then(|(_, tail)| tail.split_once('}')).map(|(declaration, _)| declaration);
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find(['{', '$', ':', '\'', '-']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("--") {
            let end = rest.find('\n').unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(literal) = rest.strip_prefix('\'') {
            let end = literal.find('\'').map_or(rest.len(), |e| e + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if rest.starts_with('{') {
            let end = rest.find('}').expect("every marker of a statement is closed: the prepare test reads them all");
            marker(&rest[1..end], dialect, (scalars, many, each), &mut out);
            rest = &rest[end + 1..];
        } else if dialect == Dialect::Sqlite && rest.starts_with("::") {
            rest = rest[2..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == ']');
        } else {
            out.push(if dialect == Dialect::Sqlite && rest.starts_with('$') { '?' } else { char_at(rest) });
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

fn char_at(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

fn highest_placeholder(text: &str) -> usize {
    text.split('$')
        .skip(1)
        .filter_map(|tail| {
            let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            tail[..digits].parse().ok()
        })
        .max()
        .unwrap_or(0)
}

fn marker(body: &str, dialect: Dialect, (scalars, many, each): (usize, usize, Option<&str>), out: &mut String) {
    let postgres = dialect == Dialect::Postgres;
    let (word, argument) = body.split_once(' ').unwrap_or((body, ""));
    let text = match word {
        "rows" => rows(argument, dialect, (scalars, many)),
        "each" if postgres => rows(argument, dialect, (scalars, many)) + " CROSS JOIN LATERAL",
        "each" => String::new(),
        "of" if postgres => argument.to_owned(),
        "of" => {
            let (_, columns) = columns(each.unwrap_or_default());
            let place = columns.iter().position(|(name, _)| argument.ends_with(&format!(".{name}")));
            format!("?{}", scalars + 1 + place.expect("`of` names a column of `each`: the prepare test reads them all"))
        }
        "check" => {
            if postgres {
                argument.to_owned()
            } else {
                format!("+{argument}")
            }
        }
        "lookup" if postgres => {
            let (table, condition) = argument.split_once(" ON ").unwrap_or((argument, "true"));
            let alias = table.rsplit(' ').next().unwrap_or(table);
            let (key, checked) = condition.split_once(" AND ").unwrap_or((condition, "true"));
            format!("LATERAL (SELECT * FROM {table} WHERE {key} LIMIT 1) {alias} ON {checked}")
        }
        "lookup" => translate(argument, dialect),
        "nil" if postgres => "'00000000-0000-0000-0000-000000000000'::uuid".to_owned(),
        "nil" => format!("x'{:032}'", 0),
        "for" => {
            if postgres {
                format!("FOR {}", argument.to_uppercase())
            } else {
                String::new()
            }
        }
        "any" if postgres => format!("= ANY({argument}::uuid[])"),
        "any" => format!("IN (SELECT unhex(value) FROM json_each(?{}))", argument.trim_start_matches('$')),
        "max" | "min" => {
            let name = match (word, postgres) {
                ("max", true) => "GREATEST",
                ("min", true) => "LEAST",
                (other, _) => other,
            };
            format!("{name}({})", if postgres { argument.to_owned() } else { translate(argument, dialect) })
        }
        "plus" => {
            let (time, micros) = argument.rsplit_once(',').unwrap_or((argument, " 0"));
            if postgres {
                format!("({time} +{micros} * INTERVAL '1 microsecond')")
            } else {
                format!("({} +{micros})", translate(time, dialect))
            }
        }
        "hour" if postgres => format!("date_trunc('hour', {argument}, 'UTC')"),
        "hour" => format!("({argument} - {argument} % 3600000000)"),
        "domain" if postgres => format!("lower(substr({argument}, strpos({argument}, '@') + 1))"),
        "domain" => format!("lower(substr({argument}, instr({argument}, '@') + 1))"),
        "merge" if postgres => argument.replacen(',', " ||", 1),
        "merge" => format!("json_patch({})", translate(argument, dialect)),
        "uuid" => if postgres { "uuid" } else { "BLOB" }.to_owned(),
        "time" => if postgres { "timestamptz" } else { "INTEGER" }.to_owned(),
        "json" => if postgres { "jsonb" } else { "TEXT" }.to_owned(),
        "bool" => if postgres { "boolean" } else { "INTEGER" }.to_owned(),
        "bigint" => if postgres { "bigint" } else { "INTEGER" }.to_owned(),
        "float" => if postgres { "double precision" } else { "REAL" }.to_owned(),
        "strict" => if postgres { "" } else { "STRICT" }.to_owned(),
        // SQLite adds no stored column to a table that is there.
        "generated" => if postgres { "STORED" } else { "VIRTUAL" }.to_owned(),
        "fillfactor" => {
            if postgres {
                format!("WITH (fillfactor = {argument})")
            } else {
                String::new()
            }
        }
        _ => panic!("a statement holds the unknown marker `{body}`: the prepare test finds it"),
    };
    out.push_str(&text);
}

/// The name of `r(id uuid, fence bigint)`, and its columns with their types.
fn columns(declaration: &str) -> (&str, Vec<(&str, &str)>) {
    let (alias, columns) = declaration.trim_end_matches(')').split_once('(').unwrap_or((declaration, ""));
    (alias, columns.split(',').filter_map(|column| column.trim().split_once(' ')).collect())
}

/// The same as a table expression, of so many rows behind so many scalars.
fn rows(declaration: &str, dialect: Dialect, (scalars, many): (usize, usize)) -> String {
    let (alias, columns) = columns(declaration);
    let width = columns.len();
    let numbered = columns.iter().enumerate().map(|(i, (name, kind))| (scalars + 1 + i, *name, *kind));
    match dialect {
        Dialect::Postgres => {
            let arrays: Vec<String> = numbered.map(|(n, _, kind)| format!("${n}::{kind}[]")).collect();
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            format!("UNNEST({}) AS {alias}({})", arrays.join(", "), names.join(", "))
        }
        Dialect::Sqlite if many == 1 => {
            let selected: Vec<String> = numbered.map(|(n, name, _)| format!("?{n} AS {name}")).collect();
            format!("(SELECT {}) AS {alias}", selected.join(", "))
        }
        Dialect::Sqlite => {
            let names = columns.iter().enumerate().map(|(i, (name, _))| format!("column{} AS {name}", i + 1));
            let row = |n| (1..=width).map(|i| format!("?{}", scalars + n * width + i)).collect::<Vec<_>>().join(", ");
            let values: Vec<String> = (0..many).map(|n| format!("({})", row(n))).collect();
            let names = names.collect::<Vec<_>>().join(", ");
            // Else SQLite takes them for a million rows, and goes through a table instead of looking them up. This is always true, and
            // said to be rare.
            format!(
                "(SELECT {names} FROM (VALUES {}) WHERE likelihood(column1 IS column1, 1e-6)) AS {alias}",
                values.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_casts_and_locks() {
        let text = "SELECT a FROM t WHERE id = $1 AND b < $12::timestamptz AND c = 'x:{y}$1' {for update skip locked}";
        assert_eq!(translate(text, Dialect::Sqlite), "SELECT a FROM t WHERE id = ?1 AND b < ?12 AND c = 'x:{y}$1' ");
        assert_eq!(
            translate(text, Dialect::Postgres),
            "SELECT a FROM t WHERE id = $1 AND b < $12::timestamptz AND c = 'x:{y}$1' FOR UPDATE SKIP LOCKED"
        );
    }

    #[test]
    fn rows_are_numbered_behind_the_scalars() {
        let text = "UPDATE t SET x = r.x, at = $1 FROM {rows r(id uuid, x bigint)} WHERE t.id = r.id";
        assert_eq!(
            translate(text, Dialect::Sqlite),
            "UPDATE t SET x = r.x, at = ?1 FROM (SELECT ?2 AS id, ?3 AS x) AS r WHERE t.id = r.id"
        );
        assert_eq!(
            translate(text, Dialect::Postgres),
            "UPDATE t SET x = r.x, at = $1 FROM UNNEST($2::uuid[], $3::bigint[]) AS r(id, x) WHERE t.id = r.id"
        );
    }

    #[test]
    fn many_rows_are_numbered_one_behind_the_other() {
        let text = "UPDATE t SET x = r.x, at = $1 FROM {rows r(id uuid, x bigint)} WHERE t.id = r.id";
        assert_eq!(
            translate_for(text, Dialect::Sqlite, 2),
            "UPDATE t SET x = r.x, at = ?1 FROM (SELECT column1 AS id, column2 AS x FROM (VALUES (?2, ?3), (?4, ?5)) WHERE likelihood(column1 IS column1, 1e-6)) AS r WHERE t.id = r.id"
        );
    }

    #[test]
    fn a_select_is_asked_for_each_row() {
        let text = "SELECT x.a FROM {each r(id uuid, n bigint)} (SELECT a FROM t WHERE id = {of r.id} AND b > {of r.n} LIMIT $1) x";
        assert_eq!(
            translate(text, Dialect::Sqlite),
            "SELECT x.a FROM  (SELECT a FROM t WHERE id = ?2 AND b > ?3 LIMIT ?1) x"
        );
        assert_eq!(
            translate(text, Dialect::Postgres),
            "SELECT x.a FROM UNNEST($2::uuid[], $3::bigint[]) AS r(id, n) CROSS JOIN LATERAL (SELECT a FROM t WHERE id = r.id AND b > r.n LIMIT $1) x"
        );
    }

    #[test]
    fn a_row_is_looked_up() {
        let text = "FROM t x LEFT JOIN {lookup u y ON y.id = x.u_id AND y.a = $1} WHERE x.b";
        assert_eq!(translate(text, Dialect::Sqlite), "FROM t x LEFT JOIN u y ON y.id = x.u_id AND y.a = ?1 WHERE x.b");
        assert_eq!(
            translate(text, Dialect::Postgres),
            "FROM t x LEFT JOIN LATERAL (SELECT * FROM u y WHERE y.id = x.u_id LIMIT 1) y ON y.a = $1 WHERE x.b"
        );
    }

    #[test]
    fn objects_are_merged() {
        let text = "SET x = {merge t.x, excluded.x}";
        assert_eq!(translate(text, Dialect::Sqlite), "SET x = json_patch(t.x, excluded.x)");
        assert_eq!(translate(text, Dialect::Postgres), "SET x = t.x || excluded.x");
    }

    #[test]
    fn a_time_is_moved_by_a_number_of_microseconds() {
        let text = "SELECT {plus COALESCE(a, $1::timestamptz), r.wait}";
        assert_eq!(translate(text, Dialect::Sqlite), "SELECT (COALESCE(a, ?1) + r.wait)");
        assert_eq!(
            translate(text, Dialect::Postgres),
            "SELECT (COALESCE(a, $1::timestamptz) + r.wait * INTERVAL '1 microsecond')"
        );
    }

    #[test]
    fn hours_and_domains() {
        let text = "SELECT {hour s.at}, {domain l.email}";
        assert_eq!(
            translate(text, Dialect::Sqlite),
            "SELECT (s.at - s.at % 3600000000), lower(substr(l.email, instr(l.email, '@') + 1))"
        );
        assert_eq!(
            translate(text, Dialect::Postgres),
            "SELECT date_trunc('hour', s.at, 'UTC'), lower(substr(l.email, strpos(l.email, '@') + 1))"
        );
    }

    #[test]
    fn lists_and_extremes() {
        let text = "SELECT {max a, $1} FROM t WHERE id {any $2}";
        assert_eq!(
            translate(text, Dialect::Sqlite),
            "SELECT max(a, ?1) FROM t WHERE id IN (SELECT unhex(value) FROM json_each(?2))"
        );
        assert_eq!(translate(text, Dialect::Postgres), "SELECT GREATEST(a, $1) FROM t WHERE id = ANY($2::uuid[])");
    }
}
