//! Closes connections whose peer reads the response too slowly.

use crate::core::limits;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream that limits the time for which writes wait for the peer to [`limits::WRITE_PROGRESS_TIME`] per
/// [`limits::WRITE_PROGRESS_BYTES_MIN`] bytes written.
pub struct WriteTimeout<S> {
    stream: S,
    /// Start of the present wait, and the timer that ends it.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    taken: usize,
}

impl<S> WriteTimeout<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, waiting: None, waited: Duration::ZERO, taken: 0 }
    }

    /// Records a write or flush of `taken` bytes; `waits` if it is still pending.
    fn watch(&mut self, context: &mut Context<'_>, taken: usize, waits: bool) -> io::Result<()> {
        self.taken += taken;
        if self.taken >= limits::WRITE_PROGRESS_BYTES_MIN {
            (self.taken, self.waited, self.waiting) = (0, Duration::ZERO, None);
        }
        if !waits {
            if let Some((since, _)) = self.waiting.take() {
                self.waited += since.elapsed();
            }
            return Ok(());
        }
        let left = limits::WRITE_PROGRESS_TIME.saturating_sub(self.waited);
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        if timer.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        let taken = if let Poll::Ready(Ok(taken)) = &done { *taken } else { 0 };
        self.watch(context, taken, done.is_pending())?;
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        let taken = if let Poll::Ready(Ok(taken)) = &done { *taken } else { 0 };
        self.watch(context, taken, done.is_pending())?;
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, 0, done.is_pending())?;
        done
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, 0, done.is_pending())?;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn write_to_one_who_reads(bytes: usize, every: Duration) -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(1_024);
        tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while far.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
        WriteTimeout::new(near).write_all(&vec![0; 4 * limits::WRITE_PROGRESS_BYTES_MIN]).await
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_are_cut_and_others_are_not() {
        // Fast enough in every window, although the transfer as a whole takes long.
        let steady = limits::WRITE_PROGRESS_TIME / 100;
        write_to_one_who_reads(limits::WRITE_PROGRESS_BYTES_MIN / 50, steady).await.unwrap();
        let dripping = write_to_one_who_reads(1, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(dripping.kind(), io::ErrorKind::TimedOut);
        let silent = write_to_one_who_reads(1, Duration::from_secs(1_000_000)).await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    }
}
