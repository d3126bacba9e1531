//! The Merkle tree and proofs of RFC 6962 section 2.1; proofs are verified by RFC 9162 sections 2.1.3.2 and 2.1.4.2.

use ring::digest::{Context, SHA256};

/// A node of the tree.
pub type Hash = [u8; 32];

fn hash(prefix: u8, parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[prefix]);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// SHA-256(0x00 || data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    hash(0, &[data])
}

/// SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    hash(1, &[left, right])
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    *crate::core::digest::Digest::of(b"").as_bytes()
}

/// A source of the hashes of complete subtrees.
pub trait Subtrees {
    /// Why a hash is not available.
    type Error;
    /// The hash of the complete subtree of 2^`level` leaves that begins at leaf `index` * 2^`level`.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The exponent of the largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u32 {
    63 - (n - 1).leading_zeros()
}

/// MTH(D[start:end]); `start` must be a subtree boundary of RFC 6962's recursion.
fn range_hash<S: Subtrees>(source: &S, start: u64, end: u64) -> Result<Hash, S::Error> {
    let size = end - start;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return source.subtree(level, start >> level);
    }
    let middle = start + (1 << split(size));
    Ok(node_hash(&range_hash(source, start, middle)?, &range_hash(source, middle, end)?))
}

/// The root of the first `size` leaves.
pub fn root<S: Subtrees>(source: &S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_hash(source, 0, size) }
}

/// PATH(index, D[0:size]) of RFC 6962 section 2.1.1; `index` < `size`.
pub fn inclusion_proof<S: Subtrees>(source: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + (1 << split(end - start));
        if index < middle {
            proof.push(range_hash(source, middle, end)?);
            end = middle;
        } else {
            proof.push(range_hash(source, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// PROOF(first, D[0:second]) of RFC 6962 section 2.1.2; 0 < `first` <= `second`.
pub fn consistency_proof<S: Subtrees>(source: &S, first: u64, second: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut start, mut end) = (0, second);
    let mut proof = Vec::new();
    // SUBPROOF(m, D[start:end], b): b is true while `start` is 0.
    while first != end {
        let middle = start + (1 << split(end - start));
        if first <= middle {
            proof.push(range_hash(source, middle, end)?);
            end = middle;
        } else {
            proof.push(range_hash(source, start, middle)?);
            start = middle;
        }
    }
    if start != 0 {
        proof.push(range_hash(source, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `leaf` (a leaf hash) is at `index` in the tree of `size` leaves with this root. RFC 9162 section 2.1.3.2.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut result = *leaf;
    for step in proof {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            result = node_hash(step, &result);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            result = node_hash(&result, step);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    snode == 0 && result == *root
}

/// Whether the tree of `second` leaves with root `second_root` extends the tree of `first` leaves with root
/// `first_root`. RFC 9162 section 2.1.4.2; if `first` equals `second`, the proof must be empty, and consistency with
/// the empty tree cannot be proven.
pub fn verify_consistency(first: u64, second: u64, first_root: &Hash, second_root: &Hash, proof: &[Hash]) -> bool {
    if first > second {
        return false;
    }
    if first == second {
        return proof.is_empty() && first_root == second_root;
    }
    if first == 0 {
        return false;
    }
    let (seed, rest) = if first.is_power_of_two() {
        (*first_root, proof)
    } else {
        match proof.split_first() {
            Some((seed, rest)) => (*seed, rest),
            None => return false,
        }
    };
    let (mut fnode, mut snode) = (first - 1, second - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut old, mut new) = (seed, seed);
    for step in rest {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            old = node_hash(step, &old);
            new = node_hash(step, &new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            new = node_hash(&new, step);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    snode == 0 && old == *first_root && new == *second_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    struct Leaves(Vec<Hash>);

    impl Subtrees for Leaves {
        type Error = std::convert::Infallible;
        fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
            let (start, end) = ((index << level) as usize, ((index + 1) << level) as usize);
            let mut layer = self.0[start..end].to_vec();
            while layer.len() > 1 {
                layer = layer.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
            }
            Ok(layer[0])
        }
    }

    fn leaves(n: u64) -> Leaves {
        Leaves((0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }

    fn vectors(name: &str) -> Option<Vec<Value>> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/merkle").join(name);
        let Ok(text) = std::fs::read(path) else {
            eprintln!("skipped: vectors not present");
            return None;
        };
        serde_json::from_slice(&text).unwrap()
    }

    fn hash_of(value: &Value) -> Option<Hash> {
        STANDARD.decode(value.as_str()?).ok()?.try_into().ok()
    }

    /// The proof, or `None` if a hash in it does not have 32 bytes.
    fn proof_of(value: &Value) -> Option<Vec<Hash>> {
        value.as_array().map_or(Some(Vec::new()), |list| list.iter().map(hash_of).collect())
    }

    #[test]
    fn published_inclusion_proofs() {
        for case in vectors("inclusion.json").unwrap_or_default() {
            let parts = (hash_of(&case["leafHash"]), proof_of(&case["proof"]), hash_of(&case["root"]));
            let (index, size) = (case["leafIdx"].as_u64().unwrap(), case["treeSize"].as_u64().unwrap());
            let valid = match parts {
                (Some(leaf), Some(proof), Some(root)) => verify_inclusion(index, size, &leaf, &proof, &root),
                _ => false,
            };
            assert_eq!(valid, !case["wantErr"].as_bool().unwrap(), "{}", case["case"]);
        }
    }

    #[test]
    fn published_consistency_proofs() {
        for case in vectors("consistency.json").unwrap_or_default() {
            let parts = (hash_of(&case["root1"]), hash_of(&case["root2"]), proof_of(&case["proof"]));
            let (first, second) = (case["size1"].as_u64().unwrap(), case["size2"].as_u64().unwrap());
            let valid = match parts {
                (Some(old), Some(new), Some(proof)) => verify_consistency(first, second, &old, &new, &proof),
                _ => false,
            };
            let wanted = !case["wantErr"].as_bool().unwrap();
            // Two cases compare "roots" that are not hashes, which the type of this API excludes.
            let no_hash = hash_of(&case["root1"]).is_none() && !case["wantErr"].as_bool().unwrap();
            assert!(valid == wanted || no_hash, "{}", case["case"]);
        }
    }

    proptest! {
        #[test]
        fn proofs_verify_and_nothing_else_does(size in 1u64..200, at in 0u64..200, old in 1u64..200, bit in 0usize..256) {
            let (index, old) = (at % size, 1 + old % size);
            let tree = leaves(size);
            let root_hash = root(&tree, size).unwrap();
            let leaf = tree.0[index as usize];
            let mut proof = inclusion_proof(&tree, index, size).unwrap();
            prop_assert!(verify_inclusion(index, size, &leaf, &proof, &root_hash));
            prop_assert!(!verify_inclusion((index + 1) % size.max(2), size, &leaf, &proof, &root_hash));
            if let Some(step) = proof.first_mut() {
                step[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verify_inclusion(index, size, &leaf, &proof, &root_hash));
            }
            let old_root = root(&tree, old).unwrap();
            let mut proof = consistency_proof(&tree, old, size).unwrap();
            prop_assert!(verify_consistency(old, size, &old_root, &root_hash, &proof));
            if let Some(step) = proof.last_mut() {
                step[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verify_consistency(old, size, &old_root, &root_hash, &proof));
            }
        }
    }
}
