//! Searching the index: words, facets, order.

use super::{IndexError, words};
use crate::catalog::Offered;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The order of what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// What fits best (SQLite FTS5, `bm25`, the title counting more); the newest first where there are no words.
    #[default]
    Relevance,
    /// The newest first.
    Newest,
    /// By title.
    Title,
}

/// How new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fresh {
    /// A day.
    Day,
    /// A week.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
    /// Any.
    Older,
}

impl Fresh {
    /// All, the newest first.
    pub const ALL: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Year, Self::Older];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
            Self::Older => "older",
        }
    }

    fn days(self) -> i64 {
        match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 30,
            Self::Year => 365,
            Self::Older => i64::from(u32::MAX),
        }
    }

    fn since(self, now: Timestamp) -> i64 {
        now.plus_ms(-self.days() * 86_400_000).ms()
    }
}

/// What is searched for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words; all must be there.
    pub words: String,
    /// Only this park's.
    pub park: Option<ParticipantId>,
    /// Only under this schema (`$id`).
    pub schema: Option<String>,
    /// Only of this sector.
    pub theme: Option<String>,
    /// Not older.
    pub fresh: Option<Fresh>,
    /// Order.
    pub sort: Sort,
    /// How many to leave out.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

/// Something found.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    /// Whose.
    pub participant: ParticipantId,
    /// When its catalog was last read.
    pub seen: Timestamp,
    /// Since when its park could not be asked: what is shown may have changed.
    pub stale_since: Option<Timestamp>,
    /// What.
    pub offered: Offered,
}

/// A page of what was found.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// In order.
    pub datasets: Vec<Hit>,
    /// How many there are; where there are more than are counted, that many.
    pub total: usize,
    /// Whether there are more than were counted.
    pub more: bool,
    /// Among those counted: by name, how many have which value.
    pub facets: BTreeMap<&'static str, Vec<(String, usize)>>,
}

/// What of the tables is searched: SQL behind WHERE, and its parameters.
struct Conditions {
    from: &'static str,
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    fn of(query: &Query, now: Timestamp) -> Self {
        let mut found = Self { from: "found f", sql: "1".into(), values: Vec::new() };
        if let Some(expression) = words::for_query(&query.words) {
            found.from = "words JOIN found f ON f.n = words.rowid";
            found.and("words MATCH ?", expression.into());
        }
        let wanted = [
            ("f.participant = ?", query.park.as_ref().map(|park| Value::from(park.to_string()))),
            ("f.schema = ?", query.schema.clone().map(Value::from)),
            ("f.theme = ?", query.theme.clone().map(Value::from)),
            ("f.published >= ?", query.fresh.map(|fresh| Value::from(fresh.since(now)))),
        ];
        for (sql, value) in wanted {
            if let Some(value) = value {
                found.and(sql, value);
            }
        }
        found
    }

    fn and(&mut self, sql: &str, value: Value) {
        self.sql = format!("{} AND {sql}", self.sql);
        self.values.push(value);
    }

    fn has_words(&self) -> bool {
        self.from.starts_with("words")
    }

    /// At most so many as are counted, the newest in the index first.
    fn candidates(&self, columns: &str) -> String {
        let order = if self.has_words() { "words.rowid" } else { "f.n" };
        let max = limits::SEARCH_COUNTED_MAX;
        format!("SELECT {columns} FROM {} WHERE {} ORDER BY {order} DESC LIMIT {max}", self.from, self.sql)
    }
}

pub fn search(connection: &Connection, query: &Query, now: Timestamp) -> Result<Page, IndexError> {
    let conditions = Conditions::of(query, now);
    let (total, facets) = count(connection, &conditions, now)?;
    let order = match (query.sort, conditions.has_words()) {
        (Sort::Relevance, true) => "rank, f.n DESC",
        (Sort::Title, _) => "f.title, f.n",
        _ => "f.published DESC, f.n",
    };
    // Ranking everything that a common word finds would take long: the newest of it is ranked.
    let ranked = query.sort == Sort::Relevance && conditions.has_words();
    let (from, sql) = if ranked {
        let rank = conditions.candidates("f.n AS n, bm25(words, 4.0, 1.0) AS rank");
        (format!("({rank}) c JOIN found f ON f.n = c.n"), "1".to_owned())
    } else {
        (conditions.from.to_owned(), conditions.sql.clone())
    };
    let sql = format!(
        "SELECT f.participant, f.body, s.refreshed, s.away FROM {from} LEFT JOIN source s ON s.participant = f.participant
         WHERE {sql} ORDER BY {order} LIMIT {} OFFSET {}",
        query.limit, query.offset
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(conditions.values.iter()))?;
    let mut datasets = Vec::new();
    while let Some(row) = rows.next()? {
        let broken = |error: &dyn std::fmt::Display| IndexError(error.to_string());
        let (participant, body): (String, String) = (row.get(0)?, row.get(1)?);
        datasets.push(Hit {
            participant: ParticipantId::parse(&participant).map_err(|error| broken(&error))?,
            seen: Timestamp::from_ms(row.get::<_, Option<i64>>(2)?.unwrap_or(0)),
            stale_since: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_ms),
            offered: serde_json::from_str(&body).map_err(|error| broken(&error))?,
        });
    }
    let more = total >= limits::SEARCH_COUNTED_MAX;
    Ok(Page { datasets, total, more, facets })
}

type Facets = BTreeMap<&'static str, Vec<(String, usize)>>;

/// Counts what is found, and its values.
fn count(connection: &Connection, conditions: &Conditions, now: Timestamp) -> Result<(usize, Facets), IndexError> {
    let sql = conditions.candidates("f.participant, f.schema, f.theme, f.published");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(conditions.values.iter()))?;
    let mut counts: [BTreeMap<String, usize>; 3] = Default::default();
    let mut ages: BTreeMap<Fresh, usize> = BTreeMap::new();
    let mut total = 0;
    while let Some(row) = rows.next()? {
        total += 1;
        for (n, counted) in counts.iter_mut().enumerate() {
            let value = row.get_ref(n)?.as_str().map_err(|error| IndexError(error.to_string()))?;
            match counted.get_mut(value) {
                Some(count) => *count += 1,
                None if value.is_empty() => {}
                None => drop(counted.insert(value.to_owned(), 1)),
            }
        }
        let published: i64 = row.get(3)?;
        let age = Fresh::ALL.into_iter().find(|fresh| published >= fresh.since(now)).unwrap_or(Fresh::Older);
        *ages.entry(age).or_default() += 1;
    }
    let most_first = |counted: BTreeMap<String, usize>| {
        let mut values: Vec<_> = counted.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values.truncate(limits::FACET_VALUES_MAX);
        values
    };
    let [parks, schemas, themes] = counts.map(most_first);
    let fresh = ages.into_iter().map(|(age, count)| (age.name().to_owned(), count)).collect();
    Ok((total, BTreeMap::from([("park", parks), ("schema", schemas), ("theme", themes), ("freshness", fresh)])))
}
