//! Reads 4 KiB at random places of a file, several at a time, and says how long it took: what `scripts/bench` measures random reads with.
//!
//! `reader FILE SIZE COUNT THREADS SEED` reads COUNT times below byte SIZE, with THREADS threads that share the work, and prints the
//! nanoseconds from the first to the last read. Of the file nothing is in the page cache before, as far as it lets go of it.

use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

const BLOCK: u64 = 4096;

/// The next of a sequence of random numbers (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, size, count, threads, seed] = &args[..] else { return Err("usage: reader FILE SIZE COUNT THREADS SEED".into()) };
    let (size, count, threads, seed): (u64, u64, u64, u64) = (size.parse()?, count.parse()?, threads.parse()?, seed.parse()?);
    if size < BLOCK || threads == 0 {
        return Err("SIZE must be 4096 or more, and THREADS 1 or more".into());
    }
    let file = File::open(path)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let start = Barrier::new(threads as usize + 1);
    let read = &|thread: u64| {
        let (mut state, mut buffer) = (seed.wrapping_mul(0x1_0001).wrapping_add(thread), [0; BLOCK as usize]);
        start.wait();
        (0..count.div_ceil(threads)).try_for_each(|_| file.read_exact_at(&mut buffer, next(&mut state) % (size / BLOCK) * BLOCK))
    };
    let took = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || read(thread))).collect();
        start.wait();
        let began = Instant::now();
        for worker in workers {
            worker.join().map_err(|_| std::io::Error::other("a reader has died"))??;
        }
        Ok::<_, std::io::Error>(began.elapsed())
    })?;
    println!("{}", took.as_nanos());
    Ok(())
}
