//! Encodings of texts.

use super::invalid;
use encoding_rs::{BIG5, CoderResult, Decoder, DecoderResult, Encoding, GB18030, UTF_8};
use std::io::{self, Read};

/// Long sequences of UTF-8 after which the rest of a file is not looked at.
const SURE_SEQUENCES: u64 = 10_000;

/// Bytes decoded in one step.
const STEP_BYTES: usize = 64 * 1024;

/// A text as UTF-8.
pub struct Utf8<'a> {
    /// The text, without a byte order mark.
    pub source: Box<dyn Read + Send + 'a>,
    /// Whether it had such a mark, or was in another encoding.
    pub marked: bool,
}

/// A text as UTF-8. Bytes that the encoding does not have are an error of their line; in UTF-8 they are told later, with the
/// record.
pub fn utf8<'a>(mut source: impl Read + Send + 'a, label: &str) -> io::Result<Utf8<'a>> {
    let encoding = Encoding::for_label(label.as_bytes())
        .ok_or_else(|| invalid(format!("the encoding `{label}` is unknown: give utf-8, utf-16le, gb18030 or big5")))?;
    if encoding == UTF_8 {
        let mut start = Vec::new();
        source.by_ref().take(3).read_to_end(&mut start)?;
        let mark = if start == b"\xEF\xBB\xBF" { 3 } else { 0 };
        let source = Box::new(io::Cursor::new(start.split_off(mark)).chain(source));
        return Ok(Utf8 { source, marked: mark > 0 });
    }
    let decoded = Decoded {
        source,
        decoder: encoding.new_decoder_with_bom_removal(),
        name: encoding.name(),
        raw: Vec::new(),
        text: String::new(),
        at: 0,
        line: 1,
        ended: false,
    };
    Ok(Utf8 { source: Box::new(decoded), marked: true })
}

struct Decoded<R> {
    source: R,
    decoder: Decoder,
    name: &'static str,
    raw: Vec<u8>,
    text: String,
    /// What of the text is read already.
    at: usize,
    line: u64,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    fn step(&mut self) -> io::Result<()> {
        self.line += memchr::memchr_iter(b'\n', self.text.as_bytes()).count() as u64;
        self.text.clear();
        self.at = 0;
        self.raw.clear();
        self.source.by_ref().take(STEP_BYTES as u64).read_to_end(&mut self.raw)?;
        self.ended = self.raw.len() < STEP_BYTES;
        let room = self.decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
        self.text.reserve(room.unwrap_or(4 * STEP_BYTES));
        let (result, _) = self.decoder.decode_to_string_without_replacement(&self.raw, &mut self.text, self.ended);
        match result {
            DecoderResult::InputEmpty => Ok(()),
            // There is room for the longest.
            DecoderResult::OutputFull => Err(invalid("a text could not be decoded")),
            DecoderResult::Malformed(..) => {
                let line = self.line + memchr::memchr_iter(b'\n', self.text.as_bytes()).count() as u64;
                Err(invalid(format!("line {line}: this is not {}; give another --encoding", self.name)))
            }
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() && !self.ended {
            self.step()?;
        }
        let rest = &self.text.as_bytes()[self.at..];
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

/// Text whose lines end with a carriage return alone, with line feeds instead.
pub struct LineFeeds<R>(pub R);

impl<R: Read> Read for LineFeeds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        buffer[..read].iter_mut().filter(|b| **b == b'\r').for_each(|b| *b = b'\n');
        Ok(read)
    }
}

/// What a file's bytes say of its encoding. The whole file decides: a single Chinese word in GB18030 may be UTF-8 by chance.
pub struct Evidence {
    seen: u64,
    start: Vec<u8>,
    zeros: [u64; 2],
    utf8: Tried,
    gb18030: Tried,
    big5: Tried,
    sequences: Sequences,
    pairs: Pairs,
    last: u8,
    lines: Lines,
}

/// First bytes of long and of two-byte sequences of UTF-8, and whether one of those stands beside an ASCII letter.
#[derive(Default)]
struct Sequences {
    long: u64,
    short: u64,
    beside_letter: bool,
}

/// Pairs of bytes, of them those of GB 2312 and the frequent ones of Big5.
#[derive(Default)]
struct Pairs {
    lead: Option<u8>,
    all: u64,
    gb2312: u64,
    big5_frequent: u64,
    /// First bytes of hanzi that Korean syllables do not have, and of kana.
    beyond_korean: u64,
    kana: u64,
}

impl Pairs {
    fn byte(&mut self, b: u8) {
        match self.lead.take() {
            Some(lead) => {
                self.all += 1;
                self.gb2312 += u64::from((0xA1..=0xF7).contains(&lead) && b >= 0xA1);
                self.beyond_korean += u64::from(lead > 0xC8);
                self.kana += u64::from(matches!(lead, 0xA4 | 0xA5));
                self.big5_frequent += u64::from((0xA1..=0xC6).contains(&lead) && (0x40..=0xFE).contains(&b));
            }
            None if b >= 0x81 => self.lead = Some(b),
            None => {}
        }
    }

    /// Whether nearly all are those.
    fn are(&self, those: u64) -> bool {
        self.all > 0 && those * 10 >= self.all * 9
    }

    /// Whether most are those.
    fn are_mostly(&self, those: u64) -> bool {
        self.all > 0 && those * 10 >= self.all * 6
    }
}

/// Lines beyond ASCII, and those of them that are surely UTF-8.
#[derive(Default)]
struct Lines {
    present: Line,
    all: u64,
    utf8: u64,
}

/// What the present line is so far.
#[derive(Default)]
struct Line {
    beyond_ascii: bool,
    broken: bool,
    /// Bytes that must follow.
    needed: u32,
    long: bool,
}

impl Lines {
    fn byte(&mut self, b: u8) {
        let line = &mut self.present;
        match b {
            b'\n' => {
                self.all += u64::from(line.beyond_ascii);
                self.utf8 += u64::from(line.beyond_ascii && line.long && !line.broken && line.needed == 0);
                self.present = Line::default();
                return;
            }
            0x80..0xC0 if line.needed > 0 => line.needed -= 1,
            _ if line.needed > 0 => line.broken = true,
            0xC2..=0xF4 => {
                line.needed = b.leading_ones() - 1;
                line.long |= b >= 0xE0;
            }
            0x80.. => line.broken = true,
            _ => {}
        }
        line.beyond_ascii |= !b.is_ascii();
    }
}

/// An encoding that is tried.
struct Tried {
    decoder: Decoder,
    /// Line of the first byte that does not fit.
    fails: Option<u64>,
    line: u64,
}

impl Tried {
    fn new(encoding: &'static Encoding) -> Self {
        Self { decoder: encoding.new_decoder_without_bom_handling(), fails: None, line: 1 }
    }

    fn feed(&mut self, bytes: &[u8], last: bool, text: &mut [u8]) {
        let mut rest = bytes;
        while self.fails.is_none() {
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(rest, text, last);
            self.line += memchr::memchr_iter(b'\n', &text[..written]).count() as u64;
            rest = &rest[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.fails = Some(self.line),
            }
        }
    }
}

impl Evidence {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            seen: 0,
            start: Vec::new(),
            zeros: [0; 2],
            utf8: Tried::new(UTF_8),
            gb18030: Tried::new(GB18030),
            big5: Tried::new(BIG5),
            sequences: Sequences::default(),
            pairs: Pairs::default(),
            last: b' ',
            lines: Lines::default(),
        }
    }

    /// Looks at all of a file.
    pub fn of(mut source: impl Read) -> io::Result<Self> {
        let (mut evidence, mut raw, mut text) = (Self::new(), Vec::new(), vec![0; 4 * STEP_BYTES]);
        loop {
            raw.clear();
            source.by_ref().take(STEP_BYTES as u64).read_to_end(&mut raw)?;
            evidence.feed(&raw, &mut text);
            if raw.len() < STEP_BYTES || evidence.is_surely_utf8() {
                return Ok(evidence);
            }
        }
    }

    /// So much that is valid in UTF-8 is not so by chance.
    fn is_surely_utf8(&self) -> bool {
        self.utf8.fails.is_none() && self.sequences.long > SURE_SEQUENCES
    }

    fn feed(&mut self, bytes: &[u8], text: &mut [u8]) {
        if self.seen == 0 {
            self.start = bytes[..bytes.len().min(4)].to_vec();
        }
        let last = bytes.len() < STEP_BYTES;
        let tried = [&mut self.utf8, &mut self.gb18030, &mut self.big5];
        let open = self.pairs.lead.is_some() || !self.last.is_ascii() || self.lines.present.beyond_ascii;
        if bytes.is_ascii() && !bytes.contains(&0) && !open {
            // The same in all of them.
            let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
            tried.into_iter().for_each(|tried| tried.line += lines);
        } else {
            tried.into_iter().for_each(|tried| tried.feed(bytes, last, text));
            bytes.iter().enumerate().for_each(|(n, b)| self.byte(self.seen + n as u64, *b));
        }
        self.seen += bytes.len() as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn byte(&mut self, at: u64, b: u8) {
        self.lines.byte(b);
        self.pairs.byte(b);
        let (seen, letter) = (&mut self.sequences, self.last.is_ascii_alphabetic());
        match b {
            0 => self.zeros[(at % 2) as usize] += 1,
            0xC2..=0xDF => {
                seen.short += 1;
                seen.beside_letter |= letter;
            }
            0xE0..=0xF4 => seen.long += 1,
            _ => seen.beside_letter |= b.is_ascii_alphabetic() && (0x80..0xC0).contains(&self.last),
        }
        self.last = b;
    }

    /// The encoding's label, or why it is not known.
    pub fn verdict(&self) -> Result<&'static str, String> {
        match self.start.as_slice() {
            [0xEF, 0xBB, 0xBF, ..] => return Ok("utf-8"),
            [0xFF, 0xFE, ..] => return Ok("utf-16le"),
            [0xFE, 0xFF, ..] => return Ok("utf-16be"),
            _ => {}
        }
        let [even, odd] = self.zeros;
        // Texts have no such bytes, except in UTF-16.
        if even + odd > 0 && even.min(odd) * 10 <= even + odd {
            return Ok(if odd > even { "utf-16le" } else { "utf-16be" });
        }
        let (pairs, seen) = (&self.pairs, &self.sequences);
        let (gb, big5) = (self.gb18030.fails.is_none(), self.big5.fails.is_none());
        if self.utf8.fails.is_none() {
            // Text of two-byte characters alone is Latin, Greek or Cyrillic in UTF-8, where letters stand side by side, or a
            // few Chinese characters.
            let doubtful = seen.long == 0 && (1..8).contains(&seen.short) && !seen.beside_letter;
            return match doubtful && gb && pairs.are(pairs.gb2312) {
                true => Err("its few characters beyond ASCII may be UTF-8 or GB18030: give --encoding".into()),
                false => Ok("utf-8"),
            };
        }
        // A few lines may be UTF-8 by chance.
        if self.lines.utf8 * 100 > self.lines.all {
            return Err(format!(
                "line {}: this is not UTF-8, but {} of {} lines beyond ASCII are: the file mixes encodings; save it as UTF-8",
                self.utf8.fails.unwrap_or(1),
                self.lines.utf8,
                self.lines.all
            ));
        }
        match (gb, big5) {
            (true, _) if pairs.are(pairs.gb2312) && pairs.all >= 6 && pairs.beyond_korean == 0 => {
                Err("its characters may be those of GB18030 or of EUC-KR: give --encoding".into())
            }
            (true, _) if pairs.are(pairs.gb2312) && pairs.kana * 10 > pairs.all => {
                Err("its characters may be those of EUC-JP: give --encoding".into())
            }
            (true, _) if pairs.are(pairs.gb2312) => Ok("gb18030"),
            (_, true) if pairs.are(pairs.big5_frequent) => Ok("big5"),
            // With rare characters, as in names.
            (true, _) if pairs.are_mostly(pairs.gb2312) => Ok("gb18030"),
            _ => {
                let line = self.utf8.fails.unwrap_or(1);
                Err(format!(
                    "line {line}: this is not UTF-8, and the file as a whole is hardly GB18030 or Big5: give --encoding, \
                     such as windows-1252, or save the file as UTF-8"
                ))
            }
        }
    }
}

/// Decodes a sample, of which the end may be cut in the middle of a character.
pub fn sample(bytes: &[u8], label: &str) -> String {
    let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(UTF_8);
    let mut decoder = encoding.new_decoder_with_bom_removal();
    let mut text = String::with_capacity(decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len() * 3));
    let (result, ..) = decoder.decode_to_string(bytes, &mut text, false);
    debug_assert!(result == CoderResult::InputEmpty, "there is room for the longest text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bytes: &[u8]) -> Result<&'static str, String> {
        Evidence::of(bytes).unwrap().verdict()
    }

    fn encoded(text: &str, encoding: &'static Encoding) -> Vec<u8> {
        encoding.encode(text).0.into_owned()
    }

    #[test]
    fn encodings_are_told_apart() {
        let chinese = "企业名称;员工人数;行业\n北京石景山虚拟现实科技有限公司;120;虚拟现实\n国资企业服务平台;35;软件\n";
        let traditional = "企業名稱,員工人數\n臺北資訊股份有限公司,120\n新竹科學園區管理局,35\n";
        for (text, encoding, expected) in [
            ("a,b\n1,2\n", UTF_8, "utf-8"),
            (chinese, UTF_8, "utf-8"),
            ("Café,Zürich\n", UTF_8, "utf-8"),
            (chinese, GB18030, "gb18030"),
            (traditional, BIG5, "big5"),
            ("公司,城市\n華為,深圳\n镕基,東莞\n", GB18030, "gb18030"),
            (traditional, UTF_8, "utf-8"),
        ] {
            assert_eq!(verdict(&encoded(text, encoding)).as_deref(), Ok(expected), "{text} {}", encoding.name());
        }
        let utf16: Vec<u8> = "名称,a\nb,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(verdict(&[&[0xFF, 0xFE][..], &utf16].concat()), Ok("utf-16le"));
        let plain: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(verdict(&plain), Ok("utf-16be"));
    }

    #[test]
    fn what_may_be_two_things_is_asked() {
        // 模 in GB18030 is ģ in UTF-8.
        assert_eq!(encoded("模", GB18030), "ģ".as_bytes());
        let doubtful = encoded("id,name\n1,模\n", GB18030);
        assert!(verdict(&doubtful).unwrap_err().contains("UTF-8 or GB18030"));
        // Another character of the file settles it, however far away.
        let far = [doubtful, b"2,x\n".repeat(100_000), encoded("3,企业\n", GB18030)].concat();
        assert_eq!(verdict(&far), Ok("gb18030"));
        let mixed = [encoded("1,企业名称\n", GB18030), "2,软件园\n".as_bytes().to_vec()].concat();
        assert!(
            verdict(&mixed).unwrap_err().starts_with("line 1: this is not UTF-8, but 1 of 2"),
            "{:?}",
            verdict(&mixed)
        );
        let latin = verdict(b"caf\xE9,1\nna\xEFve,2\n");
        let euro = verdict(&encoding_rs::WINDOWS_1252.encode("Müller;Köln;12 €\nSchröder;Düsseldorf;15 €\n").0);
        assert!(euro.is_err(), "{euro:?}");
        let korean = verdict(&encoding_rs::EUC_KR.encode("이름,도시,n\n김철수,서울,3\n").0);
        assert!(korean.as_ref().is_err_and(|text| text.contains("EUC-KR")), "{korean:?}");
        let kana = verdict(&encoding_rs::SHIFT_JIS.encode("会社名,都市\nカタカナ,ひらがな\n").0);
        assert!(kana.is_err(), "{kana:?}");
        let chinese: Vec<u8> = "企业名称,员工\n北京石景山科技,3\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(verdict(&chinese), Ok("utf-16le"));
        assert!(latin.as_ref().is_err_and(|text| text.contains("windows-1252")), "{latin:?}");
    }

    #[test]
    fn decoding_is_exact_and_names_the_line() {
        let text = "名称,数\n".repeat(40_000);
        for encoding in [GB18030, BIG5, UTF_8] {
            let label = encoding.name();
            let raw = encoded(&text.replace('数', "數").replace('称', "稱"), encoding);
            let mut found = String::new();
            utf8(&raw[..], label).unwrap().source.read_to_string(&mut found).unwrap();
            assert_eq!(found, text.replace('数', "數").replace('称', "稱"), "{label}");
        }
        let broken = [encoded("名,称\n1,2\n", GB18030), vec![0xFF, b'\n']].concat();
        let error = utf8(&broken[..], "gb18030").unwrap().source.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("line 3: this is not gb18030"), "{error}");
    }
}
