//! Tiles (C2SP tlog-tiles 0.1.0): the hashes of the tree in groups of up to 256 per level.

use super::merkle::{Hash, Subtrees, empty_root, node_hash};
use std::fmt;

/// Number of hashes in a full tile.
pub const WIDTH: u64 = 256;

/// Position and width of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileId {
    /// Level 0 contains leaf hashes; each higher level contains the roots of the full tiles below it. At most 7.
    pub level: u8,
    /// Position in the level.
    pub index: u64,
    /// Number of hashes: 1 to 256.
    pub width: u16,
}

/// A path that does not name a tile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid tile path")]
pub struct TilePathError;

impl TileId {
    /// Parses the part of a path after `tile/`: `<L>/<N>[.p/<W>]`.
    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        let (level, rest) = path.split_once('/').ok_or(TilePathError)?;
        let level = number(level, 63).ok_or(TilePathError)?;
        let (index, width) = parse_index(rest)?;
        u8::try_from(level)
            .ok()
            .filter(|level| *level <= 7)
            .map(|level| Self { level, index, width })
            .ok_or(TilePathError)
    }
}

/// Parses `<N>[.p/<W>]`: the index in groups of three digits, and the width of a partial tile or bundle.
pub fn parse_index(path: &str) -> Result<(u64, u16), TilePathError> {
    let (index, width) = match path.split_once(".p/") {
        Some((index, width)) => (index, number(width, 255).filter(|w| *w > 0).ok_or(TilePathError)?),
        None => (path, WIDTH),
    };
    let groups: Vec<&str> = index.split('/').collect();
    let mut value = 0u64;
    for (i, group) in groups.iter().enumerate() {
        let digits = if i + 1 < groups.len() { group.strip_prefix('x').ok_or(TilePathError)? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TilePathError);
        }
        let group: u64 = digits.parse().map_err(|_| TilePathError)?;
        value = value.checked_mul(1_000).and_then(|v| v.checked_add(group)).ok_or(TilePathError)?;
    }
    // Superfluous leading groups are rejected.
    if index_path(value) != index || value > u64::MAX / WIDTH {
        return Err(TilePathError);
    }
    Ok((value, width as u16))
}

/// A decimal number without leading zeros, at most `max`.
fn number(text: &str, max: u64) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text && value <= max).then_some(value)
}

fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, index_path(self.index))?;
        if u64::from(self.width) < WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The tiles on the right edge of the tree, which suffice to append leaves and to compute the root.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    /// For each level, the hashes that are not in a full tile yet: fewer than 256.
    levels: Vec<Vec<Hash>>,
}

/// A new or changed tile, full or partial, and its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Level.
    pub level: u8,
    /// Index.
    pub index: u64,
    /// Hashes, at most 256.
    pub hashes: Vec<Hash>,
}

impl Edge {
    /// Loads the edge of a tree of `size` leaves; `tile` returns the hashes of a tile.
    pub fn load<E>(size: u64, mut tile: impl FnMut(u8, u64) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut remaining = size;
        for level in 0u8.. {
            if remaining == 0 {
                break;
            }
            let width = (remaining % WIDTH) as usize;
            let mut hashes = if width > 0 { tile(level, remaining / WIDTH)? } else { Vec::new() };
            hashes.truncate(width);
            levels.push(hashes);
            remaining /= WIDTH;
        }
        Ok(Self { size, levels })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash and adds tiles that became full to `full`.
    pub fn append(&mut self, leaf: Hash, full: &mut Vec<Tile>) {
        let mut index = self.size;
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            if (self.levels[level].len() as u64) < WIDTH {
                break;
            }
            let hashes = std::mem::take(&mut self.levels[level]);
            hash = perfect_root(&hashes);
            index /= WIDTH;
            full.push(Tile { level: level as u8, index, hashes });
        }
    }

    /// The current partial tiles.
    pub fn partial(&self) -> impl Iterator<Item = Tile> {
        self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| Tile {
            level: level as u8,
            index: self.size >> (8 * (level + 1)),
            hashes: hashes.clone(),
        })
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut end = hashes.len();
            while end > 0 {
                let size = 1usize << end.trailing_zeros();
                let left = perfect_root(&hashes[end - size..end]);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                end -= size;
            }
        }
        root.unwrap_or_else(empty_root)
    }
}

/// The root over 2^n hashes.
fn perfect_root(hashes: &[Hash]) -> Hash {
    let mut layer = hashes.to_vec();
    while layer.len() > 1 {
        layer = layer.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    layer[0]
}

/// Reads subtree hashes from tiles.
pub struct TileSubtrees<F>(pub F);

/// A tile that is missing or too short.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tile {level}/{index} is missing or too short")]
pub struct MissingTile {
    /// Level.
    pub level: u8,
    /// Index.
    pub index: u64,
}

impl<F: Fn(u8, u64) -> Option<Vec<Hash>>> Subtrees for TileSubtrees<F> {
    type Error = MissingTile;
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, MissingTile> {
        let tile_level = (level / 8) as u8;
        let inside = level % 8;
        let first = index << inside;
        let tile_index = first / WIDTH;
        let missing = MissingTile { level: tile_level, index: tile_index };
        let hashes = (self.0)(tile_level, tile_index).ok_or(MissingTile { ..missing })?;
        let start = (first % WIDTH) as usize;
        let range = hashes.get(start..start + (1 << inside)).ok_or(missing)?;
        Ok(perfect_root(range))
    }
}

/// Joins hashes to a tile's bytes.
pub fn to_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// Splits a tile's bytes; `None` if they are not a whole number of hashes.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let whole = bytes.len().is_multiple_of(32) && bytes.len() <= 32 * WIDTH as usize;
    whole.then(|| bytes.chunks_exact(32).map(|chunk| chunk.try_into().expect("32 bytes")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::{self, leaf_hash};
    use std::collections::HashMap;
    use tlog_tiles as oracle;

    struct Stored(Vec<oracle::Hash>);

    impl oracle::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<oracle::Hash>, oracle::tlog::Error> {
            Ok(indexes.iter().map(|i| self.0[*i as usize]).collect())
        }
    }

    #[test]
    fn agrees_with_another_implementation() {
        let mut edge = Edge::default();
        let mut tiles: HashMap<(u8, u64), Vec<Hash>> = HashMap::new();
        let mut stored = Stored(Vec::new());
        let mut full = Vec::new();
        assert_eq!(edge.root(), empty_root());
        for size in 1u64..=66_000 {
            let data = size.to_be_bytes();
            let leaf = leaf_hash(&data);
            edge.append(leaf, &mut full);
            let more = oracle::tlog::stored_hashes(size - 1, &data, &stored).unwrap();
            stored.0.extend(more);
            let checked =
                size < 600 || size.is_multiple_of(1_021) || (65_530..65_545).contains(&size) || size == 66_000;
            if !checked {
                continue;
            }
            for tile in full.drain(..).chain(edge.partial()) {
                tiles.insert((tile.level, tile.index), tile.hashes);
            }
            let root = edge.root();
            assert_eq!(root, oracle::tlog::tree_hash(size, &stored).unwrap().0, "{size}");
            let loaded = Edge::load(size, |level, index| tiles.get(&(level, index)).cloned().ok_or(())).unwrap();
            assert_eq!(loaded.root(), root);
            let subtrees = TileSubtrees(|level, index| tiles.get(&(level, index)).cloned());
            let index = (size * 7) / 11;
            let proof = merkle::inclusion_proof(&subtrees, index, size).unwrap();
            let theirs: Vec<Hash> =
                oracle::tlog::prove_record(size, index, &stored).unwrap().iter().map(|h| h.0).collect();
            assert_eq!(proof, theirs);
            let old = 1 + size / 3;
            let proof = merkle::consistency_proof(&subtrees, old, size).unwrap();
            let theirs: Vec<Hash> = oracle::tlog::prove_tree(size, old, &stored).unwrap().iter().map(|h| h.0).collect();
            assert_eq!(proof, theirs);
        }
        for tile in oracle::Tile::new_tiles(8, 0, 66_000) {
            let data = tile.read_data(&stored).unwrap();
            let ours = &tiles[&(tile.level(), tile.level_index())];
            assert_eq!(to_bytes(ours)[..data.len()], data[..], "{}", tile.path());
        }
    }

    #[test]
    fn paths() {
        for (path, level, index, width) in
            [("0/000", 0, 0, 256), ("0/x001/x234/067", 0, 1_234_067, 256), ("2/005.p/17", 2, 5, 17)]
        {
            let id = TileId { level, index, width };
            assert_eq!(TileId::parse(path), Ok(id));
            assert_eq!(id.to_string(), path);
        }
        for bad in [
            "0",
            "0/1",
            "0/x000/001",
            "0/001.p/0",
            "0/001.p/256",
            "0/001.p/",
            "8/001",
            "00/001",
            "0/001/",
            "0/x999/x999/x999/x999/x999/x999/999",
            "-1/001",
            "0/+01",
        ] {
            assert!(TileId::parse(bad).is_err(), "{bad}");
        }
    }
}
