//! Randomness as a port, so that everything above it is a function of its inputs.

use ring::rand::{SecureRandom, SystemRandom};

/// A source of unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills `buffer` wholly.
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
    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
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
        // Without randomness no key, salt or id may be made: going on would be worse than stopping.
        self.0.fill(buffer).expect("the operating system's random generator works");
    }
}
