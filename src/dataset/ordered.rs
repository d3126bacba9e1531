//! An ordered parallel pipeline with bounded memory, used for publishing and for opening.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

/// Takes items from `source` (on a separate thread), processes them on `threads` threads and passes the results to
/// `sink` (on the calling thread) in the order of the items. At most `4 * threads` items are in flight. The first
/// error of `source`, a worker or `sink` stops the pipeline.
pub fn run<T, R, E, W>(
    threads: usize,
    mut source: impl FnMut() -> Result<Option<T>, E> + Send,
    worker: impl Fn() -> Result<W, E> + Sync,
    mut sink: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    R: Send,
    E: Send,
    W: FnMut(T) -> R,
{
    let under_way = 4 * threads.max(1);
    // One ticket per item bounds the results that wait behind a slow item.
    let (give_back, tickets) = sync_channel::<()>(under_way);
    (0..under_way).for_each(|_| give_back.send(()).expect("the receiver is still in scope"));
    let (send_item, items) = sync_channel::<(u64, T)>(under_way);
    let items: Mutex<Receiver<(u64, T)>> = Mutex::new(items);
    let (send_result, results) = sync_channel::<Result<(u64, R), E>>(under_way + threads + 1);

    std::thread::scope(|scope| {
        let report = send_result.clone();
        scope.spawn(move || {
            for number in 0u64.. {
                match source() {
                    Ok(Some(item)) if tickets.recv().is_ok() => {
                        if send_item.send((number, item)).is_err() {
                            break;
                        }
                    }
                    Ok(_) => break,
                    Err(error) => {
                        let _ = report.send(Err(error));
                        break;
                    }
                }
            }
        });
        for _ in 0..threads.max(1) {
            let (report, items, worker) = (send_result.clone(), &items, &worker);
            scope.spawn(move || {
                let mut work = match worker() {
                    Ok(work) => work,
                    Err(error) => return drop(report.send(Err(error))),
                };
                loop {
                    // A poisoned lock is harmless: the receiver has no state that a panic could leave inconsistent.
                    let item = items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
                    let Ok((number, item)) = item else { break };
                    if report.send(Ok((number, work(item)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send_result);

        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let outcome = results.iter().try_for_each(|result| {
            let (number, result) = result?;
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                sink(result)?;
                let _ = give_back.send(());
            }
            Ok(())
        });
        // Unblocks the threads that wait for a ticket or for space in a queue: their channel is now closed.
        drop((results, give_back));
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_errors() {
        let mut n = 0u64;
        let mut seen = Vec::new();
        let source = || {
            Ok::<_, String>((n < 1_000).then(|| {
                n += 1;
                n
            }))
        };
        let worker = || {
            Ok(|x: u64| {
                if x.is_multiple_of(97) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                x * 2
            })
        };
        run(3, source, worker, |x| {
            seen.push(x);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (1..=1_000).map(|x| x * 2).collect::<Vec<_>>());

        let fails = || Err::<Option<u64>, _>("source".to_owned());
        assert_eq!(run(2, fails, || Ok(|x: u64| x), |_| Ok(())), Err("source".to_owned()));
        let endless = || Ok::<_, String>(Some(1u64));
        assert_eq!(run(2, endless, || Ok(|x: u64| x), |_| Err("sink".to_owned())), Err("sink".to_owned()));
        let endless = || Ok::<_, String>(Some(1u64));
        let no_worker = || Err::<fn(u64) -> u64, _>("worker".to_owned());
        assert_eq!(run(2, endless, no_worker, |_| Ok(())), Err("worker".to_owned()));
    }
}
