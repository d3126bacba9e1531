//! How many different hashes there are: HyperLogLog (Flajolet et al. 2007).

/// Registers of the estimate: the standard error is 1.04 / sqrt(4096), 1.6 percent.
const REGISTERS: usize = 4_096;
const INDEX_BITS: u32 = REGISTERS.ilog2();

/// The largest rank of the hashes of each register.
#[derive(Debug)]
pub struct Registers {
    ranks: Box<[u8]>,
    /// No rank is smaller: a hash of a rank that is not larger changes nothing, and its register need not be read.
    floor: u8,
    /// Hashes since the floor was found.
    since: usize,
}

impl Default for Registers {
    fn default() -> Self {
        Self { ranks: vec![0; REGISTERS].into(), floor: 0, since: 0 }
    }
}

impl Registers {
    /// Adds a hash of 64 bits.
    pub fn add(&mut self, hash: u64) {
        let rank = (hash << INDEX_BITS | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
        if rank <= self.floor {
            return;
        }
        let slot = &mut self.ranks[(hash >> (64 - INDEX_BITS)) as usize];
        *slot = (*slot).max(rank);
        self.since += 1;
        if self.since == REGISTERS {
            self.since = 0;
            self.floor = self.ranks.iter().copied().min().unwrap_or_default();
        }
    }

    /// Adds the hashes of others.
    pub fn merge(&mut self, others: &Self) {
        self.ranks.iter_mut().zip(&others.ranks).for_each(|(own, other)| *own = (*own).max(*other));
    }

    /// About how many different hashes were added.
    pub fn estimate(&self) -> f64 {
        let size = self.ranks.len() as f64;
        let sum: f64 = self.ranks.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
        let empty = self.ranks.iter().filter(|rank| **rank == 0).count() as f64;
        // Linear counting, where registers are still empty.
        let estimate = if raw <= 2.5 * size && empty > 0.0 { size * (size / empty).ln() } else { raw };
        estimate.round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64 as hash;

    #[test]
    fn a_floor_changes_nothing() {
        let (mut registers, mut plain) = (Registers::default(), vec![0u8; REGISTERS]);
        for n in 0..200_000u64 {
            let hash = hash(&n.to_le_bytes());
            registers.add(hash);
            let slot = &mut plain[(hash >> (64 - INDEX_BITS)) as usize];
            *slot = (*slot).max((hash << INDEX_BITS | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1);
        }
        assert!(registers.floor > 1 && *registers.ranks == *plain, "{}", registers.floor);
    }
}
