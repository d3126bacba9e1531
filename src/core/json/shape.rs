//! The order of an object's members: remembered, as most objects have the members of the object before.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicU64};

/// Objects with more members, or longer names, are not remembered.
const MEMBERS_MAX: usize = 256;
const NAMES_BYTES_MAX: usize = 16 * 1024;

/// The number of the last shape in the process, so that no two shapes have the same.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The last seen shape for each number of members.
#[derive(Debug, Default)]
pub struct Shapes {
    known: Vec<Shape>,
    /// Number of the shape of the last object.
    last: Option<u64>,
}

/// Names in the order of the source.
#[derive(Debug, Default)]
struct Shape {
    id: u64,
    names: Vec<u8>,
    /// Where each name ends in `names`.
    ends: Vec<u32>,
    /// The canonical order (RFC 8785 section 3.2.3).
    permutation: Vec<u32>,
}

impl Shape {
    fn new<'a>(permutation: Vec<u32>, name: &impl Fn(u32) -> &'a str) -> Self {
        let mut shape = Self { id: LAST.fetch_add(1, atomic::Ordering::Relaxed), permutation, ..Self::default() };
        for member in 0..shape.permutation.len() as u32 {
            shape.names.extend_from_slice(name(member).as_bytes());
            shape.ends.push(shape.names.len() as u32);
        }
        shape
    }

    /// Whether these are its names, in its order.
    fn is_of<'a>(&self, name: &impl Fn(u32) -> &'a str) -> bool {
        let mut begin = 0;
        self.ends.iter().zip(0..).all(|(&end, member)| {
            let known = &self.names[begin..end as usize];
            begin = end as usize;
            known == name(member).as_bytes()
        })
    }
}

impl Shapes {
    /// Before the next text.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    /// The number of the last object's shape, if it is known.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// Writes the members of an object with these names to `order`, in canonical order; returns a member whose name another
    /// one before has.
    pub fn order<'a>(&mut self, order: &mut [u32], name: impl Fn(u32) -> &'a str) -> Option<u32> {
        let len = order.len();
        self.last = None;
        if let Some(shape) = self.known.get(len).filter(|shape| shape.permutation.len() == len) {
            order.copy_from_slice(&shape.permutation);
            if shape.is_of(&name) {
                self.last = Some(shape.id);
                return None;
            }
            // Other names may be in the same order.
            let ascends = |pair: &[u32]| compare_utf16(name(pair[0]).as_bytes(), name(pair[1]).as_bytes()).is_lt();
            if order.windows(2).all(ascends) {
                return None;
            }
        }
        order.iter_mut().zip(0..).for_each(|(slot, member)| *slot = member);
        order.sort_by(|a, b| compare_utf16(name(*a).as_bytes(), name(*b).as_bytes()));
        if let Some(pair) = order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            return Some(pair[0].max(pair[1]));
        }
        let size: usize = order.iter().map(|member| name(*member).len()).sum();
        if len < MEMBERS_MAX && size <= NAMES_BYTES_MAX {
            let shape = Shape::new(order.to_vec(), &name);
            self.last = Some(shape.id);
            self.known.resize_with(self.known.len().max(len + 1), Shape::default);
            self.known[len] = shape;
        }
        None
    }
}

/// Compares UTF-8 texts by their UTF-16 code units (RFC 8785 section 3.2.3). This differs from byte order only if one
/// character is beyond U+FFFF (a surrogate pair, from D800) and the other is in U+E000 to U+FFFF.
pub fn compare_utf16(a: &[u8], b: &[u8]) -> Ordering {
    // If one of the two is ASCII, the first difference cannot be such a pair.
    if a.is_ascii() || b.is_ascii() {
        return a.cmp(b);
    }
    match a.iter().zip(b).find(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        Some((&x, &y)) if x >= 0xF0 && (0xEE..0xF0).contains(&y) => Ordering::Less,
        Some((&x, &y)) if y >= 0xF0 && (0xEE..0xF0).contains(&x) => Ordering::Greater,
        Some((x, y)) => x.cmp(y),
    }
}
