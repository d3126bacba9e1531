//! Randomness as a port, so that the code above it is a function of its inputs.

use ring::rand::{SecureRandom, SystemRandom};

/// A source of unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills the whole `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

/// `N` random bytes.
pub fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut out = [0u8; N];
    random.fill(&mut out);
    out
}

/// The operating system's generator.
#[derive(Debug, Clone)]
pub struct SystemRandomness(SystemRandom);

impl SystemRandomness {
    /// Opens the generator.
    #[allow(clippy::disallowed_methods, reason = "the only implementation of the port")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemRandomness {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        // Keys, salts and ids must not be made without randomness, so a failure here stops the process.
        self.0.fill(buffer).expect("the operating system's random generator should work");
    }
}
