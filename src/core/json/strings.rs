//! Strings and their escapes (RFC 8259 section 7).

use super::scan::plain_end;
use super::tape::{JsonError, Kind, Parser};

impl Parser<'_, '_> {
    /// Parses a string; the current position is its opening quote.
    pub(super) fn string(&mut self) -> Result<(), JsonError> {
        let begin = self.at + 1;
        let at = plain_end(self.source, begin);
        match self.source.get(at) {
            Some(b'"') => {}
            Some(b'\\') => return self.escaped_string(begin, at),
            Some(_) => return Err(self.control(at)),
            None => return Err(self.error("a string is not terminated")),
        }
        self.push(Kind::String, begin, at - begin)?;
        self.at = at + 1;
        Ok(())
    }

    fn control(&self, at: usize) -> JsonError {
        JsonError::new("a control character in a string must be written as an escape", at)
    }

    fn escaped_string(&mut self, begin: usize, first: usize) -> Result<(), JsonError> {
        let start = self.tape.text.len();
        let mut plain = begin;
        let mut at = first;
        loop {
            match self.source.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.tape.text.extend_from_within(plain..at);
                    let (character, after) = self.escape(at)?;
                    self.tape.text.push(character);
                    (plain, at) = (after, after);
                }
                Some(0..0x20) => return Err(self.control(at)),
                Some(_) => at = plain_end(self.source, at),
                None => return Err(self.error("a string is not terminated")),
            }
        }
        self.tape.text.extend_from_within(plain..at);
        let len = self.tape.text.len() - start;
        self.push(Kind::String, start, len)?;
        self.at = at + 1;
        Ok(())
    }

    /// Decodes the escape at `at`; returns the character and the offset after it.
    fn escape(&self, at: usize) -> Result<(char, usize), JsonError> {
        let error = |problem: &str| JsonError::new(problem, at);
        let simple = |c| Ok((c, at + 2));
        match self.source.get(at + 1) {
            Some(b'"') => simple('"'),
            Some(b'\\') => simple('\\'),
            Some(b'/') => simple('/'),
            Some(b'b') => simple('\u{8}'),
            Some(b'f') => simple('\u{c}'),
            Some(b'n') => simple('\n'),
            Some(b'r') => simple('\r'),
            Some(b't') => simple('\t'),
            Some(b'u') => {
                let unit = self.hex4(at + 2).ok_or_else(|| error("`\\u` needs four hexadecimal digits"))?;
                let lone = || error("half of a surrogate pair without the other half");
                match unit {
                    0xD800..0xDC00 => {
                        let low = (self.source.get(at + 6..at + 8) == Some(b"\\u"))
                            .then(|| self.hex4(at + 8))
                            .flatten()
                            .filter(|low| (0xDC00..0xE000).contains(low))
                            .ok_or_else(lone)?;
                        let code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        char::from_u32(code).map(|c| (c, at + 12)).ok_or_else(lone)
                    }
                    _ => char::from_u32(unit).map(|c| (c, at + 6)).ok_or_else(lone),
                }
            }
            _ => Err(error("unknown escape in a string")),
        }
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let digits = self.source.get(at..at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}
