//! The order of an object's members: remembered, as most objects have the members of the object before.

use super::tape::{Kind, Tape, compare_utf16};
use std::sync::atomic::{AtomicU64, Ordering};

/// Objects with more members, or longer names, are not remembered.
const MEMBERS_MAX: usize = 256;
const NAMES_BYTES_MAX: usize = 16 * 1024;

/// The number of the last shape in the process, so that no two shapes have the same.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The last seen shape for each number of members.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    /// Number of the shape of the last object.
    last: Option<u64>,
    scratch: Vec<u32>,
}

impl Shapes {
    /// Before the next text.
    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }
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
    /// Whether the names with these tokens are its names, in its order.
    fn is_of(&self, tape: &Tape, names: &[u32]) -> bool {
        let mut begin = 0;
        self.ends.len() == names.len()
            && self.ends.iter().zip(names).all(|(&end, &name)| {
                let known = &self.names[begin..end as usize];
                begin = end as usize;
                known == tape.name(name).as_bytes()
            })
    }
}

impl Tape {
    /// A number that all top-level objects with the same names in the same order have, and no others; `None` if it is
    /// not known. Of all tapes.
    pub fn shape(&self) -> Option<u64> {
        self.shapes.last.filter(|_| self.root().kind() == Kind::Object)
    }

    /// Puts the members of the object at `object` in canonical order; returns the token of a name that appears twice.
    pub(super) fn order_members(&mut self, object: usize) -> Option<u32> {
        let mut shapes = std::mem::take(&mut self.shapes);
        let repeated = self.order_by(&mut shapes, object);
        self.shapes = shapes;
        repeated
    }

    fn order_by(&mut self, shapes: &mut Shapes, object: usize) -> Option<u32> {
        let (start, len) = (self.tokens[object].start as usize, self.tokens[object].len as usize);
        let Shapes { known, last, scratch: names } = shapes;
        names.clear();
        let mut at = object as u32 + 1;
        for _ in 0..len {
            names.push(at);
            at = self.tokens[at as usize + 1].next;
        }
        *last = None;
        if let Some(shape) = known.get(len).filter(|shape| shape.permutation.len() == len) {
            for (slot, &member) in shape.permutation.iter().enumerate() {
                self.order[start + slot] = names[member as usize];
            }
            if shape.is_of(self, names) {
                *last = Some(shape.id);
                return None;
            }
            // Other names may be in the same order.
            if self.is_ascending(start, len) {
                return None;
            }
        }
        let mut permutation: Vec<u32> = (0..len as u32).collect();
        let name = |member: u32| self.name(names[member as usize]).as_bytes();
        permutation.sort_by(|a, b| compare_utf16(name(*a), name(*b)));
        for pair in permutation.windows(2) {
            if name(pair[0]) == name(pair[1]) {
                return Some(names[pair[0].max(pair[1]) as usize]);
            }
        }
        for (slot, &member) in permutation.iter().enumerate() {
            self.order[start + slot] = names[member as usize];
        }
        let size: usize = names.iter().map(|name| self.name(*name).len()).sum();
        if len < MEMBERS_MAX && size <= NAMES_BYTES_MAX {
            let mut shape = Shape { id: LAST.fetch_add(1, Ordering::Relaxed), permutation, ..Shape::default() };
            for name in names.iter() {
                shape.names.extend_from_slice(self.name(*name).as_bytes());
                shape.ends.push(shape.names.len() as u32);
            }
            *last = Some(shape.id);
            known.resize_with(known.len().max(len + 1), Shape::default);
            known[len] = shape;
        }
        None
    }

    fn name(&self, token: u32) -> &str {
        self.str_of(self.tokens[token as usize])
    }

    fn is_ascending(&self, start: usize, len: usize) -> bool {
        let name = |slot: usize| self.name(self.order[slot]).as_bytes();
        (start + 1..start + len).all(|slot| compare_utf16(name(slot - 1), name(slot)).is_lt())
    }
}
