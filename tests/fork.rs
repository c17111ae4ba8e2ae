//! A process that was forked after the blocking pool was used: the threads are the parent's, and
//! the child is told so.
//!
//! A `main` of its own, which forks before it has threads other than the pool's.
#![allow(unsafe_code, reason = "fork(2) cannot be called otherwise")]

use std::process::exit;
use std::time::Duration;

use postlude::{Runtime, spawn_blocking};

fn sum(runtime: &Runtime) -> Result<u32, String> {
    let job = runtime.block_on(async { spawn_blocking(|| (1..=10).sum()).await });
    job.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// What the child finds, as its exit status.
fn child(runtime: Runtime) -> i32 {
    let refused = sum(&runtime);
    if !refused.as_ref().is_err_and(|error| error.contains("this process was forked")) {
        eprintln!("the old runtime's job in the child: {refused:?}");
        return 2;
    }
    drop(runtime);
    match Runtime::new().map(|runtime| sum(&runtime)) {
        Ok(Ok(55)) => 0,
        other => {
            eprintln!("a new runtime's job in the child: {other:?}");
            3
        }
    }
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    assert_eq!(sum(&runtime), Ok(55));
    // SAFETY: the child calls nothing but what a child of a process with threads may rely on here:
    // the allocator, which glibc makes usable after a fork, and this crate, which takes no lock
    // that one of the pool's threads may have held.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // Should it hang, it ends all the same.
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(20));
            eprintln!("the child hangs");
            exit(4);
        });
        exit(child(runtime));
    }
    assert!(forked > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: the pointer is to a local variable.
    let waited = unsafe { libc::waitpid(forked, &raw mut status, 0) };
    assert_eq!((waited, libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (forked, true, 0));
    assert_eq!(sum(&runtime), Ok(55), "the parent's pool is as it was");
    eprintln!("test a_forked_process_is_told_that_the_pool_is_not_its_own ... ok");
}
