//! Adapters of streams, on a paused clock.

use std::time::Duration;

use futures::{StreamExt, stream};
use postlude::{Runtime, iter, time};

fn paused(test: impl AsyncFnOnce()) {
    Runtime::builder().paused_clock().build().unwrap().block_on(test()).unwrap();
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn throttle_spaces_items_and_loses_none() {
    paused(async || {
        let start = time::now();
        let times = iter::throttle(stream::iter(0..3), 10 * MS).map(|i| (i, time::now() - start));
        assert_eq!(times.collect::<Vec<_>>().await, [(0, Duration::ZERO), (1, 10 * MS), (2, 20 * MS)]);
    });
}

#[test]
fn throttle_by_zero_waits_for_nothing_and_by_max_for_ever() {
    paused(async || {
        let start = time::now();
        assert_eq!(iter::throttle(stream::iter(0..1000), Duration::ZERO).count().await, 1000);
        assert_eq!(time::now(), start);
        let mut never = iter::throttle(stream::iter(0..2), Duration::MAX);
        assert_eq!(never.next().await, Some(0));
        assert!(time::timeout(1000 * MS, never.next()).await.is_err());
    });
}

#[test]
fn timeout_reports_each_limit_that_passes_and_then_the_item() {
    paused(async || {
        let late = stream::once(async { time::sleep(25 * MS).await });
        let items: Vec<_> = iter::timeout(Box::pin(late), 10 * MS).map(|item| item.is_ok()).collect().await;
        assert_eq!(items, [false, false, true]);
    });
}

#[test]
fn timeout_by_zero_still_yields_what_is_there() {
    paused(async || {
        let items: Vec<_> = iter::timeout(stream::iter(0..3), Duration::ZERO).map(Result::unwrap).collect().await;
        assert_eq!(items, [0, 1, 2]);
        let mut silent = iter::timeout(stream::pending::<()>(), Duration::MAX);
        assert!(time::timeout(1000 * MS, silent.next()).await.is_err());
    });
}
