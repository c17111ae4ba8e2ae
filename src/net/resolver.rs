//! Look-ups of names: getaddrinfo(3) blocks, so they have threads of their own, at most
//! [`THREADS`] per runtime.
//!
//! A slow name server thus holds up neither `spawn_blocking` nor files, only other look-ups. These
//! are kept few:
//!
//! - An equal name in flight is looked up once. All who ask wait for the same [`Lookup`].
//! - A look-up that nobody waits for any more leaves the queue. One that runs cannot be stopped;
//!   its answer is dropped.
//!
//! Nothing is cached: a question that comes after the answer is another look-up.
//!
//! # How it works
//!
//! A look-up is a blocking job with an ordinary [`JoinHandle`]. The first waiter to be polled polls
//! it, with a waker that wakes all waiters; the first to find the answer leaves it for the others.
//! Waiters are plain data behind locks, because a future that connects must be `Send`.
//!
//! Locks are taken in one order, the resolver's before a look-up's, and no foreign code (a waker, a
//! hook) runs under either.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use slab::Slab;

use crate::event_loop::context::{self, Home};
use crate::event_loop::misuse::Misuse;
use crate::event_loop::parts::Parts;
use crate::executor::budget;
use crate::pool::Pool;
use crate::task::{JoinHandle, job};

/// Enough for a few names at once; more would only ask a slow server harder.
const THREADS: usize = 4;

type Found = io::Result<Vec<SocketAddr>>;

/// Returns the addresses of a host, with port 0.
type Resolve = dyn Fn(&str) -> Found + Send + Sync;

thread_local! {
    /// The resolvers of this thread's runtimes. Those of runtimes that ended go with the next new
    /// one.
    static RESOLVERS: RefCell<Vec<(Home, Arc<Resolver>)>> = const { RefCell::new(Vec::new()) };
}

/// Looks a name up, on the current runtime's threads for that.
///
/// # Panics
///
/// Outside a runtime: "`lookup_host` was called on thread …".
pub(super) async fn resolve(host: String, port: u16) -> Found {
    let waiting = {
        let Some(parts) = context::current() else { panic!("{}", Misuse::no_runtime("`lookup_host` was called")) };
        resolver_of(&parts).ask(&parts, host)
    };
    let mut found = waiting.await?;
    found.iter_mut().for_each(|address| address.set_port(port));
    Ok(found)
}

fn resolver_of(parts: &Parts) -> Arc<Resolver> {
    RESOLVERS.with_borrow_mut(|resolvers| {
        if let Some((_, resolver)) = resolvers.iter().find(|(home, _)| *home == parts.home) {
            return Arc::clone(resolver);
        }
        resolvers.retain(|(home, _)| home.is_alive());
        let resolver = Arc::new(Resolver::new(Pool::new(THREADS), |host| Ok((host, 0).to_socket_addrs()?.collect())));
        parts.other_pools.borrow_mut().push(resolver.pool.clone());
        resolvers.push((parts.home, Arc::clone(&resolver)));
        resolver
    })
}

/// The look-ups of one runtime.
struct Resolver {
    pool: Pool,
    resolve: Arc<Resolve>,
    lookups: Mutex<Lookups>,
}

#[derive(Default)]
struct Lookups {
    in_flight: HashMap<String, Arc<Lookup>>,
    /// Given up since cancelled ones were last taken off the pool's queue.
    given_up: usize,
}

/// A name that is being looked up.
struct Lookup {
    name: String,
    state: Mutex<LookupState>,
}

struct LookupState {
    /// The job, then its answer.
    answer: Result<Found, JoinHandle<Found>>,
    /// Those who wait, each with its waker between a poll and the next wake.
    waiters: Slab<Option<Waker>>,
}

impl Resolver {
    fn new(pool: Pool, resolve: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        Self { pool, resolve: Arc::new(resolve), lookups: Mutex::default() }
    }

    /// Joins the look-up of this name, or begins one.
    fn ask(self: &Arc<Self>, parts: &Parts, name: String) -> Waiting {
        let lookups = lock(&self.lookups);
        if let Some(lookup) = lookups.in_flight.get(&name) {
            let place = lock(&lookup.state).waiters.insert(None);
            return Waiting { resolver: Arc::clone(self), lookup: Arc::clone(lookup), place };
        }
        drop(lookups);
        let (resolve, host) = (Arc::clone(&self.resolve), name.clone());
        let job = job::spawn(parts, &self.pool, move || resolve(&host), Location::caller());
        let mut waiters = Slab::new();
        let place = waiters.insert(None);
        let state = Mutex::new(LookupState { answer: Err(job), waiters });
        let lookup = Arc::new(Lookup { name: name.clone(), state });
        lock(&self.lookups).in_flight.insert(name, Arc::clone(&lookup));
        Waiting { resolver: Arc::clone(self), lookup, place }
    }

    /// Lets later questions begin a look-up of their own.
    fn end(lookups: &mut Lookups, lookup: &Arc<Lookup>) {
        if lookups.in_flight.get(&lookup.name).is_some_and(|known| Arc::ptr_eq(known, lookup)) {
            lookups.in_flight.remove(&lookup.name);
        }
    }

    /// Takes cancelled look-ups off the queue once they may be half of it, so that each costs O(1).
    fn clear_queue(&self) {
        let queued = self.pool.queued();
        let mut lookups = lock(&self.lookups);
        lookups.given_up += 1;
        let is_due = lookups.given_up * 2 >= queued;
        if is_due {
            lookups.given_up = 0;
        }
        drop(lookups);
        if is_due {
            self.pool.remove_cancelled();
        }
    }
}

/// A task that waits for a look-up.
#[must_use = "dropping it gives the look-up up"]
struct Waiting {
    resolver: Arc<Resolver>,
    lookup: Arc<Lookup>,
    /// Its place among the waiters.
    place: usize,
}

impl Future for Waiting {
    type Output = Found;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        ready!(budget::poll_available(cx));
        let waker = cx.waker().clone();
        let mut state = lock(&self.lookup.state);
        if let Err(job) = &mut state.answer {
            let wakes_all = Waker::from(Arc::clone(&self.lookup));
            let Poll::Ready(answer) = job.poll_output(&wakes_all) else {
                let before = state.waiters[self.place].replace(waker);
                drop(state);
                drop(before);
                return Poll::Pending;
            };
            state.answer = Ok(answer.unwrap_or_else(|error| Err(error.into())));
        }
        let answer = state.answer.as_ref().map_or_else(|_| unreachable!("it is an answer by now"), copy);
        drop(state);
        Resolver::end(&mut lock(&self.resolver.lookups), &self.lookup);
        budget::spend();
        Poll::Ready(answer)
    }
}

/// Errors of the system cannot be cloned; kind and text are all that getaddrinfo(3) tells.
fn copy(found: &Found) -> Found {
    found.as_ref().cloned().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut lookups = lock(&self.resolver.lookups);
        let mut state = lock(&self.lookup.state);
        let waker = state.waiters.try_remove(self.place);
        let given_up = if state.waiters.is_empty() && state.answer.is_err() {
            Resolver::end(&mut lookups, &self.lookup);
            // Nobody will see this answer.
            std::mem::replace(&mut state.answer, Ok(Ok(Vec::new()))).err()
        } else {
            None
        };
        drop(state);
        drop(lookups);
        drop(waker);
        if let Some(job) = given_up {
            job.abort();
            self.resolver.clear_queue();
        }
    }
}

impl Wake for Lookup {
    fn wake(self: Arc<Self>) {
        let wakers: Vec<Waker> = lock(&self.state).waiters.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::time::Duration;

    use crate::task::JoinSet;
    use crate::time::timeout;
    use crate::{Runtime, spawn_blocking};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A name server that answers nobody until it is let go.
    #[derive(Default)]
    struct Server {
        state: Mutex<(Vec<String>, bool)>,
        changed: Condvar,
    }

    impl Server {
        fn resolve(&self, name: &str) -> Found {
            let mut state = lock(&self.state);
            state.0.push(name.to_owned());
            self.changed.notify_all();
            let (state, late) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.1).unwrap();
            drop(state);
            assert!(!late.timed_out(), "nobody lets {name} go");
            if name == "none" {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        }

        /// Waits until so many questions have come.
        fn wait_for(&self, count: usize) {
            let state = lock(&self.state);
            let (state, late) =
                self.changed.wait_timeout_while(state, PATIENCE, |state| state.0.len() < count).unwrap();
            assert!(!late.timed_out(), "{:?}", state.0);
        }

        fn let_go(&self) {
            lock(&self.state).1 = true;
            self.changed.notify_all();
        }

        fn asked(&self) -> Vec<String> {
            let mut asked = lock(&self.state).0.clone();
            asked.sort();
            asked
        }
    }

    fn setup(threads: usize) -> (Arc<Server>, Arc<Resolver>) {
        let server = Arc::new(Server::default());
        let asked = Arc::clone(&server);
        (server, Arc::new(Resolver::new(Pool::new(threads), move |name| asked.resolve(name))))
    }

    fn ask(resolver: &Arc<Resolver>, name: &str) -> Waiting {
        resolver.ask(&context::current().unwrap(), name.to_owned())
    }

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = Runtime::builder().max_blocking_threads(1).build().unwrap();
        runtime.block_on(timeout(PATIENCE, future)).unwrap().expect("it hangs")
    }

    fn in_flight(resolver: &Resolver) -> usize {
        lock(&resolver.lookups).in_flight.len()
    }

    #[test]
    fn a_name_that_is_being_looked_up_is_not_asked_for_again() {
        let (server, resolver) = setup(4);
        run(async {
            let mut set = JoinSet::new();
            for n in 0..300 {
                let waiting = ask(&resolver, ["slow", "none", "other"][n % 3]);
                set.spawn(async move { waiting.await.map_err(|error| (error.kind(), error.to_string())) });
            }
            server.wait_for(3);
            server.let_go();
            let mut found = 0;
            while let Some(answer) = set.join_next().await {
                match answer.unwrap() {
                    Ok(addresses) => found += addresses.len(),
                    Err(error) => assert_eq!(error, (io::ErrorKind::NotFound, "no such name".to_owned())),
                }
            }
            assert_eq!(found, 200);
            assert_eq!(server.asked(), ["none", "other", "slow"]);
            assert_eq!(in_flight(&resolver), 0);
            ask(&resolver, "slow").await.unwrap();
            assert_eq!(server.asked().len(), 4, "an answer is not kept");
        });
    }

    #[test]
    fn a_look_up_that_is_given_up_leaves_the_queue_and_is_never_asked() {
        let (server, resolver) = setup(1);
        run(async {
            let running = ask(&resolver, "running");
            let mut waiting: Vec<_> = (0..1000).map(|n| ask(&resolver, &n.to_string())).collect();
            server.wait_for(1);
            assert_eq!(resolver.pool.queued(), 1000);
            waiting.truncate(10);
            assert!(resolver.pool.queued() <= 40, "{}", resolver.pool.queued());
            let stays = waiting.pop().unwrap();
            drop(waiting);
            assert_eq!(in_flight(&resolver), 2);
            server.let_go();
            stays.await.unwrap();
            running.await.unwrap();
            assert_eq!(server.asked(), ["9", "running"]);
        });
    }

    #[test]
    fn one_who_gives_up_takes_nothing_from_the_others() {
        let (server, resolver) = setup(1);
        run(async {
            let first = ask(&resolver, "slow");
            let second = ask(&resolver, "slow");
            let third = crate::spawn(ask(&resolver, "slow"));
            timeout(Duration::from_millis(1), first).await.unwrap_err();
            server.wait_for(1);
            server.let_go();
            second.await.unwrap();
            third.await.unwrap().unwrap();
            assert_eq!(server.asked(), ["slow"]);
        });
    }

    #[test]
    fn a_name_given_up_while_it_is_looked_up_is_looked_up_anew() {
        let (server, resolver) = setup(2);
        run(async {
            let first = ask(&resolver, "slow");
            server.wait_for(1);
            drop(first);
            assert_eq!(in_flight(&resolver), 0);
            let second = ask(&resolver, "slow");
            server.wait_for(2);
            server.let_go();
            second.await.unwrap();
        });
    }

    #[test]
    fn slow_names_hold_up_no_blocking_job() {
        let (server, resolver) = setup(4);
        run(async {
            let waiting: Vec<_> = (0..100).map(|n| ask(&resolver, &n.to_string())).collect();
            server.wait_for(4);
            assert_eq!(spawn_blocking(|| 42).await.unwrap(), 42);
            assert_eq!((resolver.pool.threads(), resolver.pool.queued()), (4, 96));
            server.let_go();
            for one in waiting {
                one.await.unwrap();
            }
        });
    }

    #[test]
    fn a_look_up_that_cannot_begin_is_an_error_for_all_who_wait() {
        let (_, resolver) = setup(1);
        run(async {
            let waiting = [ask(&resolver, "a"), ask(&resolver, "a")];
            resolver.pool.shutdown(Duration::ZERO);
            for one in waiting.into_iter().chain([ask(&resolver, "b")]) {
                assert_eq!(one.await.unwrap_err().kind(), io::ErrorKind::Other);
            }
        });
    }

    #[test]
    fn a_runtime_s_resolver_goes_when_another_one_is_made() {
        let count = || RESOLVERS.with_borrow(Vec::len);
        for _ in 0..3 {
            run(async {
                let parts = context::current().unwrap();
                assert!(Arc::ptr_eq(&resolver_of(&parts), &resolver_of(&parts)));
                assert_eq!(count(), 1);
            });
        }
    }
}
