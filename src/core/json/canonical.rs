//! RFC 8785: names sorted by UTF-16 code units, numbers and string escapes as in ECMAScript, no white space.

use super::scan::plain_end;
use super::tape::{Kind, Node, Tape, Token};

impl Tape {
    /// Appends the canonical form of the whole value.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        self.root().write_canonical(out);
    }
}

impl Node<'_> {
    /// Appends the canonical form of this value.
    pub fn write_canonical(self, out: &mut Vec<u8>) {
        write(self.tape, self.at as usize, out);
    }
}

fn write(tape: &Tape, at: usize, out: &mut Vec<u8>) {
    let token = tape.tokens[at];
    match token.kind {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Boolean if token.start == 1 => out.extend_from_slice(b"true"),
        Kind::Boolean => out.extend_from_slice(b"false"),
        Kind::Number => out.extend_from_slice(tape.str_of(token).as_bytes()),
        Kind::String => write_string(tape.str_of(token), out),
        Kind::Array => {
            out.push(b'[');
            let mut at = at + 1;
            for i in 0..token.len {
                if i > 0 {
                    out.push(b',');
                }
                write(tape, at, out);
                at = tape.tokens[at].next as usize;
            }
            out.push(b']');
        }
        Kind::Object => write_object(tape, token, out),
    }
}

fn write_object(tape: &Tape, token: Token, out: &mut Vec<u8>) {
    out.push(b'{');
    let order = &tape.order[token.start as usize..(token.start + token.len) as usize];
    for (i, &name) in order.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(tape.str_of(tape.tokens[name as usize]), out);
        out.push(b':');
        write(tape, name as usize + 1, out);
    }
    out.push(b'}');
}

/// RFC 8785 section 3.2.2.2: only quotes, backslashes and control characters are escaped.
fn write_string(string: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = string.as_bytes();
    let mut plain = 0;
    loop {
        let at = plain_end(bytes, plain);
        out.extend_from_slice(&bytes[plain..at]);
        let Some(&b) = bytes.get(at) else { break };
        plain = at + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0A => out.extend_from_slice(b"\\n"),
            0x0C => out.extend_from_slice(b"\\f"),
            0x0D => out.extend_from_slice(b"\\r"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
    }
    out.push(b'"');
}
