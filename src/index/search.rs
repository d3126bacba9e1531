//! Search: full text, facets and sorting.

use super::{IndexError, words};
use crate::catalog::Offered;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Order of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Best match first (SQLite FTS5 `bm25`, with more weight on the title); newest first if the query has no words.
    #[default]
    Relevance,
    /// Newest first.
    Newest,
    /// By title.
    Title,
}

/// Maximum age of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaxAge {
    /// A day.
    Day,
    /// A week.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
    /// Any age.
    Older,
}

impl MaxAge {
    /// All values, newest first.
    pub const ALL: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Year, Self::Older];

    /// The value's name.
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

/// A search query.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words, all of which must occur.
    pub words: String,
    /// Only datasets of this park.
    pub park: Option<ParticipantId>,
    /// Only datasets with this schema (`$id`).
    pub schema: Option<String>,
    /// Only datasets of this sector.
    pub theme: Option<String>,
    /// Only datasets of at most this age.
    pub max_age: Option<MaxAge>,
    /// Order of the results.
    pub sort: Sort,
    /// Number of results to skip.
    pub offset: usize,
    /// Maximum number of results.
    pub limit: usize,
}

/// A search result.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Hit {
    /// Provider of the dataset.
    pub participant: ParticipantId,
    /// Time of the last read of the provider's catalog.
    pub seen: Timestamp,
    /// Time since when the provider has been unreachable; the dataset may have changed since then.
    pub stale_since: Option<Timestamp>,
    /// The dataset.
    pub offered: Offered,
}

/// A facet value and its count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Facet {
    /// Value.
    pub value: String,
    /// Number of datasets with this value.
    pub count: usize,
}

/// A page of search results.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Page {
    /// The results in the requested order.
    pub datasets: Vec<Hit>,
    /// Number of matching datasets, limited to [`limits::SEARCH_COUNTED_MAX`].
    pub total: usize,
    /// Whether the limit was reached, so that there may be more.
    pub more: bool,
    /// Facets of the counted datasets, by name.
    #[schemars(with = "BTreeMap<String, Vec<Facet>>")]
    pub facets: Facets,
}

/// The conditions of a query: tables, SQL for WHERE, and its parameters.
struct Conditions {
    from: &'static str,
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    fn of(query: &Query, now: Timestamp) -> Self {
        let park = query.park.as_ref().map(ParticipantId::to_string);
        let facets = [
            ("park", "f.participant = ?", park),
            ("schema", "f.schema = ?", query.schema.clone()),
            ("theme", "f.theme = ?", query.theme.clone()),
        ];
        let wanted = facets.into_iter().filter_map(|(name, sql, value)| Some((name, sql, value?)));
        let mut found = Self { from: "found f", sql: "1".into(), values: Vec::new() };
        match words::for_query(&query.words) {
            Some(expression) => {
                // The full-text index also filters by the facets.
                let facets = wanted.map(|(name, _, value)| format!(" AND facets : {}", words::facet(name, &value)));
                found.from = "words JOIN found f ON f.n = words.rowid";
                found.and("words MATCH ?", (expression + &facets.collect::<String>()).into());
            }
            // Punctuation alone contains no words and matches nothing.
            None if !query.words.trim().is_empty() => found.sql = "0".into(),
            None => wanted.for_each(|(_, sql, value)| found.and(sql, value.into())),
        }
        if let Some(max_age) = query.max_age {
            found.and("f.published >= ?", max_age.since(now).into());
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
}

/// A match before its dataset is read.
struct Candidate {
    n: i64,
    title: String,
    published: i64,
    rank: f64,
}

pub fn search(connection: &Connection, query: &Query, now: Timestamp) -> Result<Page, IndexError> {
    let conditions = Conditions::of(query, now);
    let (mut candidates, facets) = candidates(connection, query, &conditions, now)?;
    let total = candidates.len();
    let rows = if conditions.has_words() {
        match query.sort {
            Sort::Relevance => candidates.sort_by(|a, b| a.rank.total_cmp(&b.rank).then(b.n.cmp(&a.n))),
            Sort::Newest => candidates.sort_by_key(|one| (std::cmp::Reverse(one.published), one.n)),
            Sort::Title => candidates.sort_by(|a, b| a.title.cmp(&b.title).then(a.n.cmp(&b.n))),
        }
        candidates.iter().skip(query.offset).take(query.limit).map(|one| one.n).collect()
    } else {
        ordered(connection, query, &conditions)?
    };
    let datasets = rows.into_iter().map(|n| hit(connection, n)).collect::<Result<_, _>>()?;
    Ok(Page { datasets, total, more: total >= limits::SEARCH_COUNTED_MAX, facets })
}

/// Without words, the indexes already provide the order.
fn ordered(connection: &Connection, query: &Query, conditions: &Conditions) -> Result<Vec<i64>, IndexError> {
    let order = if query.sort == Sort::Title { "f.title, f.n" } else { "f.published DESC, f.n" };
    let (limit, offset) = (query.limit, query.offset);
    let sql =
        format!("SELECT f.n FROM found f WHERE {} ORDER BY {order} LIMIT {limit} OFFSET {offset}", conditions.sql);
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(conditions.values.iter()), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn hit(connection: &Connection, n: i64) -> Result<Hit, IndexError> {
    let sql = "SELECT f.participant, f.body, s.refreshed, s.away FROM found f
               LEFT JOIN source s ON s.participant = f.participant WHERE f.n = ?1";
    let (participant, body, seen, away) = connection.prepare_cached(sql)?.query_row([n], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?, row.get(3)?))
    })?;
    let broken = |error: &dyn std::fmt::Display| IndexError(error.to_string());
    Ok(Hit {
        participant: ParticipantId::parse(&participant).map_err(|error| broken(&error))?,
        seen: Timestamp::from_ms(seen.unwrap_or(0)),
        stale_since: Option::<i64>::map(away, Timestamp::from_ms),
        offered: serde_json::from_str(&body).map_err(|error| broken(&error))?,
    })
}

/// Facets by name.
pub type Facets = BTreeMap<&'static str, Vec<Facet>>;

/// The matches, limited to the maximum count and newest in the index first, and the facet counts.
fn candidates(
    connection: &Connection,
    query: &Query,
    conditions: &Conditions,
    now: Timestamp,
) -> Result<(Vec<Candidate>, Facets), IndexError> {
    let words = conditions.has_words();
    let (order, rank) = match (words, query.sort) {
        (true, Sort::Relevance) => ("words.rowid DESC", "bm25(words, 4.0, 1.0, 0.0)"),
        (true, _) => ("words.rowid DESC", "0.0"),
        (false, _) => ("f.published DESC, f.n", "0.0"),
    };
    let title = if words && query.sort == Sort::Title { "f.title" } else { "''" };
    let sql = format!(
        "SELECT f.participant, f.schema, f.theme, f.published, f.n, {rank}, {title} FROM {} WHERE {}
         ORDER BY {order} LIMIT {}",
        conditions.from,
        conditions.sql,
        limits::SEARCH_COUNTED_MAX
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(conditions.values.iter()))?;
    let mut counts: [BTreeMap<String, usize>; 3] = Default::default();
    let mut ages: BTreeMap<MaxAge, usize> = BTreeMap::new();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        for (n, counted) in counts.iter_mut().enumerate() {
            let value = row.get_ref(n)?.as_str().map_err(|error| IndexError(error.to_string()))?;
            match counted.get_mut(value) {
                Some(count) => *count += 1,
                None if value.is_empty() => {}
                None => drop(counted.insert(value.to_owned(), 1)),
            }
        }
        let published: i64 = row.get(3)?;
        let age = MaxAge::ALL.into_iter().find(|age| published >= age.since(now)).unwrap_or(MaxAge::Older);
        *ages.entry(age).or_default() += 1;
        found.push(Candidate { n: row.get(4)?, published, rank: row.get(5)?, title: row.get(6)? });
    }
    let most_first = |counted: BTreeMap<String, usize>| {
        let mut values: Vec<_> = counted.into_iter().map(|(value, count)| Facet { value, count }).collect();
        values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        values.truncate(limits::FACET_VALUES_MAX);
        values
    };
    let [parks, schemas, themes] = counts.map(most_first);
    let fresh = ages.into_iter().map(|(age, count)| Facet { value: age.name().to_owned(), count }).collect();
    Ok((found, BTreeMap::from([("park", parks), ("schema", schemas), ("theme", themes), ("freshness", fresh)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_typed_is_a_search(words in "[\\PC园能 \"*:^(){}+-]{0,40}") {
            let index = Index::in_memory().unwrap();
            let query = Query { words, limit: 5, ..Query::default() };
            let page = search(&index.connection(), &query, Timestamp::from_ms(0)).unwrap();
            prop_assert_eq!(page.total, 0);
        }
    }
}
