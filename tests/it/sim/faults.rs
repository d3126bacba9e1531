//! Fault injection.

use async_trait::async_trait;
use crosspark::core::random::Random;
use crosspark::storage::interceptor::Interceptor;
use crosspark::storage::{Change, Logged, Maintenance, Store, StoreError};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Pseudo-random numbers from a seed (SplitMix64).
pub struct Chance(Mutex<u64>);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Random for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

/// A fault in one write of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is persisted, and the caller gets an error.
    FailBefore,
    /// The write is persisted, but the caller gets an error.
    FailAfter,
    /// The node crashes before the write.
    DieBefore,
    /// The node crashes after the write is persisted; the caller gets no result.
    DieAfter,
}

impl Fault {
    pub const ALL: [Self; 4] = [Self::FailBefore, Self::FailAfter, Self::DieBefore, Self::DieAfter];
}

/// The writes that fail.
pub enum Plan {
    /// None.
    Never,
    /// Randomly one in N, up to a maximum number of faults.
    Chance(Chance, u64, AtomicU32),
    /// Exactly the write with this number.
    Step(u32, Fault),
}

impl Plan {
    fn draw(&self, step: u32) -> Option<Fault> {
        match self {
            Self::Never => None,
            Self::Step(at, fault) => (*at == step).then_some(*fault),
            Self::Chance(chance, one_in, left) => {
                let strikes = chance.one_in(*one_in) && left.load(Ordering::Relaxed) > 0;
                strikes.then(|| {
                    left.fetch_sub(1, Ordering::Relaxed);
                    Fault::ALL[chance.below(4) as usize]
                })
            }
        }
    }
}

/// Counts a node's writes across its restarts, and injects the faults of the plan.
pub struct Controller {
    pub plan: Plan,
    pub writes: AtomicU32,
}

/// One run of a node, from start to crash.
#[derive(Default)]
pub struct Life {
    dead: AtomicBool,
    died: tokio::sync::Notify,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    pub async fn over(&self) {
        if !self.is_over() {
            self.died.notified().await;
        }
    }

    /// Never returns after a crash, so that a crashed node does nothing any more.
    pub async fn proceed(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

/// Injects faults into a node's store.
pub struct Strikes {
    pub controller: Arc<Controller>,
    pub life: Arc<Life>,
}

impl Strikes {
    async fn write<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.life.proceed().await;
        let step = self.controller.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let failed = || Err(StoreError::Unavailable("the disk is full".into()));
        match self.controller.plan.draw(step) {
            None => work.await,
            Some(Fault::FailBefore) => failed(),
            Some(Fault::FailAfter) => {
                work.await?;
                failed()
            }
            Some(fault) => {
                if fault == Fault::DieAfter {
                    work.await?;
                }
                self.life.end();
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl Interceptor for Strikes {
    async fn commit(&self, inner: &Arc<dyn Store>, change: Change) -> Result<Vec<Logged>, StoreError> {
        self.write(inner.commit(change)).await
    }

    async fn maintain(&self, inner: &Arc<dyn Store>, tasks: Vec<Maintenance>) -> Result<(), StoreError> {
        self.write(inner.maintain(tasks)).await
    }
}
