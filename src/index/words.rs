//! Tokens for SQLite's full-text search in Chinese and English. Its `unicode61` tokenizer treats a whole run of Chinese
//! characters as one word, and `trigram` finds no words of two characters. Therefore runs of Chinese, Japanese and
//! Korean characters are indexed as overlapping pairs (科技园 as 科技 技园 园), and other text unchanged, for its
//! Porter stemmer.

use crate::core::digest::Digest;

/// Whether a character belongs to a script without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c as u32,
        0x2E80..=0x2FDF | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

/// Splits a text into runs of one kind: whether the run is unspaced, and its characters.
fn runs(text: &str) -> Vec<(bool, Vec<char>)> {
    let mut found: Vec<(bool, Vec<char>)> = Vec::new();
    let mut begun = false;
    for c in text.chars() {
        if !c.is_alphanumeric() && !is_unspaced(c) {
            begun = false;
            continue;
        }
        let unspaced = is_unspaced(c);
        match found.last_mut() {
            Some((kind, run)) if begun && *kind == unspaced => run.push(c),
            _ => found.push((unspaced, vec![c])),
        }
        begun = true;
    }
    found
}

fn pairs(run: &[char]) -> Vec<String> {
    run.windows(2).map(|pair| pair.iter().collect()).collect()
}

/// Prepares a text for the full-text index.
pub fn for_index(text: &str) -> String {
    let mut words = Vec::new();
    for (unspaced, run) in runs(text) {
        if unspaced {
            words.extend(pairs(&run));
            // The last character starts no pair, but must be found as well.
            words.extend(run.last().map(char::to_string));
        } else {
            words.push(run.into_iter().collect());
        }
    }
    words.join(" ")
}

/// Encodes a facet value as one word, so that the full-text index can filter by it.
pub fn facet(name: &str, value: &str) -> String {
    let digest = Digest::labelled("crosspark/facet/v1", &[name.as_bytes(), b"\0", value.as_bytes()]);
    format!("f{}", &hex::encode(digest.as_bytes())[..24])
}

/// Converts a search text to a MATCH expression (SQLite FTS5 section 3) that requires all words; `None` without words.
pub fn for_query(text: &str) -> Option<String> {
    let phrases: Vec<String> = runs(text)
        .into_iter()
        .map(|(unspaced, run)| match (unspaced, run.as_slice()) {
            (true, [one]) => format!("\"{one}\"*"),
            (true, run) => format!("\"{}\"", pairs(run).join(" ")),
            (false, run) => format!("\"{}\"", run.iter().collect::<String>()),
        })
        .collect();
    (!phrases.is_empty()).then(|| format!("{{title other}} : ({})", phrases.join(" AND ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_overlap_and_words_stay() {
        for (text, indexed, query) in [
            ("科技园区", "科技 技园 园区 区", Some("\"科技 技园 园区\"")),
            ("园区", "园区 区", Some("\"园区\"")),
            ("园", "园", Some("\"园\"*")),
            ("AI技术, energy-use", "AI 技术 术 energy use", Some("\"AI\" AND \"技术\" AND \"energy\" AND \"use\"")),
            ("\" OR title:x*", "OR title x", Some("\"OR\" AND \"title\" AND \"x\"")),
            ("  --  ", "", None),
        ] {
            let query = query.map(|query| format!("{{title other}} : ({query})"));
            assert_eq!((for_index(text).as_str(), for_query(text)), (indexed, query), "{text}");
        }
    }
}
