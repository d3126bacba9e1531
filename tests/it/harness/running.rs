//! Running nodes, as separate processes or in the test process.

use super::Park;
use crosspark::core::time::{Clock, SystemClock, Timestamp};
use crosspark::net::own_node_client;
use crosspark::services::Services;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node in the test process.
pub struct Here {
    pub services: Services,
    pub(super) stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

impl Here {
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// A node that runs as a separate process.
pub struct Running<'a> {
    pub(super) park: &'a Park,
    pub(super) child: Option<Child>,
}

impl Running<'_> {
    pub(super) async fn wait_ready(&mut self) {
        self.park.wait_http().await;
        if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
            panic!("{} ended with {status}: {}", self.park.id, self.park.log());
        }
    }

    /// Waits until the node is ready or has ended, and returns whether it runs.
    pub async fn comes_up(&mut self) -> bool {
        let client = own_node_client().unwrap();
        for _ in 0..1_000 {
            if self.has_ended() {
                return false;
            }
            let ready = client.get(format!("{}/readyz", self.park.management)).send().await;
            if ready.is_ok_and(|response| response.status().is_success()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.as_ref().unwrap().id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.as_ref().unwrap().id())).unwrap().count()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Kills the node without a graceful shutdown.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        // The process may already have ended.
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Waits until the outbox is empty.
    pub async fn settle(&self) {
        for _ in 0..2_000 {
            let status = self.park.get("admin", "/v1/status").await;
            if status["outbox"]["waiting"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the outbox of {} did not become empty", self.park.id);
    }

    /// Stops the node gracefully and verifies its log.
    pub fn stop(mut self) {
        let mut child = self.child.take().unwrap();
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{} ended with {status}: {}", self.park.id, self.park.log());
        assert!(!self.park.log().contains("panicked"), "{}", self.park.log());
        let (code, report) = self.park.verify(&[]);
        assert_eq!(code, 0, "the log of {} does not verify: {report}", self.park.id);
        assert_eq!(report["entries"], report["covered"], "{report}");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A failed test must not leave a process behind.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A clock that a test can advance.
pub struct ShiftedClock(pub AtomicI64);

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0.load(Ordering::SeqCst))
    }
}
