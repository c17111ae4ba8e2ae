//! Histograms of waits and runs, and their text for Prometheus.

use std::time::Duration;

use postlude::deferred::{Lane, Outcome, Queue};
use postlude::time;

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(body: impl AsyncFnOnce() -> T) -> T {
    postlude::Runtime::builder().paused_clock().build().unwrap().block_on(body()).unwrap()
}

/// Three jobs, which wait for 5, 6 and 8 s, and run for 1, 2 and 4 s; a job of another lane, which
/// runs for a minute.
async fn work() -> Queue {
    let queue = Queue::builder().lane(Lane::on_loop("slow")).build();
    let group = queue.group("", 0);
    for seconds in [1, 2, 4] {
        group.add(async move { time::sleep(seconds * SECOND).await }).unwrap();
    }
    time::sleep(5 * SECOND).await;
    group.release(Outcome::Delivered);
    queue.task("slow").lane("slow").run(async || time::sleep(60 * SECOND).await).unwrap();
    queue.idle().await;
    queue
}

#[test]
fn a_histogram_knows_how_long_all_took_together() {
    run(async || {
        let stats = work().await.stats();
        let lane = stats.lanes.iter().find(|lane| lane.lane == "loop").unwrap();
        assert_eq!((lane.wait.count(), lane.wait.sum()), (3, 19 * SECOND));
        assert_eq!((lane.run.count(), lane.run.sum()), (3, 7 * SECOND));
        let total = stats.total();
        assert_eq!((total.run.count(), total.run.sum()), (4, 67 * SECOND));
    });
}

#[test]
fn a_quantile_is_a_bound_however_long_jobs_run() {
    run(async || {
        for (ran, share, bound) in [
            (Duration::from_micros(700), 1.0, Some(Duration::from_micros(1024))),
            (600 * SECOND, 0.5, Some(Duration::from_micros(1 << 30))),
            (100_000 * SECOND, 0.99, Some(Duration::MAX)),
        ] {
            let queue = Queue::new();
            assert_eq!(queue.stats().total().run.quantile(share), None);
            queue.add(time::sleep(ran)).unwrap();
            queue.idle().await;
            let total = queue.stats().total();
            assert_eq!((total.run.quantile(share), total.run.sum() / 1000), (bound, ran / 1000));
        }
    });
}

#[cfg(all(feature = "http", feature = "signal"))]
#[path = "../../examples/metrics.rs"]
#[allow(dead_code, reason = "only its text is looked at")]
mod metrics;

/// The rules of the text format for histograms: cumulative buckets with rising bounds, the last of
/// which is `+Inf` and equals `_count`, then `_sum`.
#[cfg(all(feature = "http", feature = "signal"))]
#[test]
fn the_example_s_text_is_a_histogram_as_prometheus_reads_it() {
    let text = run(async || metrics::render(&work().await));
    let sample = |name: &str| -> f64 {
        let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect();
        assert_eq!(found.len(), 1, "{name} in\n{text}");
        found[0].parse().unwrap()
    };
    for name in ["postlude_jobs_wait_seconds", "postlude_jobs_run_seconds"] {
        assert_eq!(text.matches(&format!("# TYPE {name} histogram\n")).count(), 1);
        for lane in ["loop", "threads", "slow"] {
            let prefix = format!("{name}_bucket{{lane=\"{lane}\",le=\"");
            let buckets: Vec<(f64, f64)> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "))
                .map(|(bound, count)| (bound.parse().unwrap(), count.parse().unwrap()))
                .collect();
            assert!(buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{buckets:?}");
            let all = sample(&format!("{name}_count{{lane=\"{lane}\"}}"));
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, all)), "{name} of {lane}");
        }
    }
    let sums = [("wait", "loop", 19.0), ("run", "loop", 7.0), ("run", "slow", 60.0), ("run", "threads", 0.0)];
    for (name, lane, sum) in sums {
        assert_eq!(sample(&format!("postlude_jobs_{name}_seconds_sum{{lane=\"{lane}\"}}")), sum);
    }
    let below = |bound: &str| sample(&format!("postlude_jobs_run_seconds_bucket{{lane=\"loop\",le=\"{bound}\"}}"));
    assert_eq!((below("1.048576"), below("4.194304"), below("+Inf")), (1.0, 3.0, 3.0));
}
