//! The scan that goes on behind a mount: begun in a thread of its own, waited for as long as that is worth it, and then left to itself
//! while what the journal tells can be used already.
//!
//! What free space tells is told in steps. Until all of it was looked through, a chain can be a part of a longer one, and another can turn out
//! to fit an inode better. So chains found so far stand for themselves only, marked as unfinished and never as complete
//! ([`crate::recover::Orphan::unfinished`]); to whom they belong, and what can be inferred, is decided at the end, when the result is the same
//! as if one had waited for it.

use crate::catalog::{Place, Scan};
use crate::error::{Error, Result};
use crate::fs::lock;
use crate::image::ImageOptions;
use crate::progress::Progress;
use crate::recover::{Past, Recovery};
use crate::scan::extent::{Extent, Looked};
use crate::scan::{Gathering, Survey};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The first rate that is measured is that of this time.
const MEASURED: Duration = Duration::from_secs(1);

/// How often it is looked whether waiting is still worth it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The shortest time between one look at what was found so far and the next.
const PAUSE: Duration = Duration::from_secs(2);

/// The pause is so many times what a look takes, so that the scan is hardly slower for it, and at least such a part of the time since the
/// beginning, so that they become fewer.
const SHARE: u32 = 20;

/// How long an end waits for the scan to write down what it found last. A medium that does not answer holds nobody up longer.
const FAREWELL: Duration = Duration::from_secs(1);

/// A scan under way, and the history that its finds will be added to.
pub struct Behind {
    past: Past,
    work: Arc<Work>,
    thread: JoinHandle<()>,
}

/// Ends a scan from another thread.
#[derive(Clone)]
pub struct Stop(Arc<Work>);

/// What the scan's thread shares with others.
struct Work {
    gathering: Mutex<Gathering>,
    extent: Arc<Extent>,
    /// Everything was known from the start.
    known: bool,
    state: Mutex<State>,
    changed: Condvar,
    wanted: AtomicBool,
    /// Whom to tell how far it is.
    listener: Mutex<Option<Arc<dyn Progress + Send>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// All of free space was looked through.
    Done,
    /// It ended before that.
    Ended,
}

/// Says at the end of the thread, however that comes, that the scan goes on no more.
struct Ending<'a>(&'a Work);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.become_state(State::Ended);
    }
}

impl Behind {
    /// Begins to look through free space, with the catalog at `place`, for what is lost besides `past`, which was read from the image that
    /// `image` names. `listener` is told how far it is, until [`Behind::wait`] has returned.
    ///
    /// # Errors
    /// Those of [`Scan::open`]; [`Error::Failed`] where no thread can be started.
    pub fn start(past: Past, place: &Place, image: &ImageOptions, listener: Arc<dyn Progress + Send>) -> Result<Behind> {
        let (fs, place, image) = (Arc::clone(past.filesystem()), place.clone(), image.clone());
        let (tell, told) = mpsc::sync_channel::<Result<Arc<Work>>>(1);
        let scan = move || {
            let scan = match Scan::open(&fs, &place, &image) {
                Ok(scan) => scan,
                // Nobody listens any more only if nobody wants the scan.
                Err(error) => return drop(tell.send(Err(error))),
            };
            let work = Arc::new(Work {
                gathering: Mutex::default(),
                extent: Arc::default(),
                known: scan.is_complete(),
                state: Mutex::new(State::Running),
                changed: Condvar::new(),
                wanted: AtomicBool::new(true),
                listener: Mutex::new(Some(listener)),
            });
            let _ending = Ending(&work);
            if tell.send(Ok(Arc::clone(&work))).is_err() {
                return;
            }
            match scan.run(&[], &mut |part| lock(&work.gathering).add(part), &*work) {
                Ok(_) if work.is_wanted() => work.become_state(State::Done),
                Ok(_) => {}
                Err(error) => log::error!("{error}"),
            }
        };
        let failed = |why: &dyn std::fmt::Display| Error::Failed(format!("cannot start the scan: {why}"));
        let thread = thread::Builder::new().name("scan".into()).spawn(scan).map_err(|error| failed(&error))?;
        let work = told.recv().map_err(|error| failed(&error))??;
        Ok(Behind { past, work, thread })
    }

    /// Waits for the scan as long as it seems that it will have taken no more than `patience` in all. Returns whether it is over. Where the
    /// catalog knew everything from the start, there is nothing to lose patience with.
    pub fn wait(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        // What the catalog knew was done in no time: the rate is that of what came after it.
        let mut first = None::<(Instant, u64)>;
        let mut state = lock(&self.work.state);
        while *state == State::Running {
            let (done, total) = self.work.extent.get();
            if total > 0 {
                first.get_or_insert((Instant::now(), done));
            }
            let rate = first.map_or((Duration::ZERO, 0), |(since, before)| (since.elapsed(), done.saturating_sub(before)));
            if !self.work.known && is_too_long(patience, begun.elapsed(), rate, total.saturating_sub(done)) {
                break;
            }
            state = self.work.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_over = *state != State::Running;
        drop(state);
        *lock(&self.work.listener) = None;
        is_over
    }

    /// How far the scan is.
    pub fn extent(&self) -> Arc<Extent> {
        Arc::clone(&self.work.extent)
    }

    /// What ends the scan before its time.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.work))
    }

    /// What was lost as far as the journal alone tells.
    pub fn by_journal(&self) -> Recovery {
        let survey = Survey { looked: Looked::Partly(self.extent()), ..Survey::default() };
        self.past.clone().recover(&survey, &())
    }

    /// Waits for the scan's end, and gives to `show` what was lost as far as that can be told: now and then while the scan goes on, and at
    /// last everything. Where the scan is stopped, it returns without that.
    ///
    /// # Errors
    /// [`Error::Failed`] where the scan did not get through, though nobody stopped it.
    pub fn grow(self, show: &mut dyn FnMut(Recovery)) -> Result<()> {
        let (begun, mut pause, mut pages) = (Instant::now(), PAUSE, 0);
        while self.goes_on_for(pause) {
            let gathering = lock(&self.work.gathering).clone();
            if gathering.pages() > pages {
                pages = gathering.pages();
                let at = Instant::now();
                let survey = gathering.finish(self.past.filesystem(), Looked::Partly(self.extent()));
                show(self.past.clone().recover(&survey, &()));
                pause = PAUSE.max(at.elapsed() * SHARE).max(begun.elapsed() / SHARE);
            }
        }
        let stop = self.stop();
        match self.finish(&()) {
            Ok(recovery) => show(recovery),
            Err(_) if !stop.0.is_wanted() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the scan still goes on after this time; waits for its end until then.
    fn goes_on_for(&self, time: Duration) -> bool {
        let running = |state: &mut State| *state == State::Running;
        let waited = self.work.changed.wait_timeout_while(lock(&self.work.state), time, running);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == State::Running
    }

    /// Waits for the scan's end and returns everything that was lost.
    ///
    /// # Errors
    /// [`Error::Failed`] where the scan did not get through.
    pub fn finish(self, progress: &dyn Progress) -> Result<Recovery> {
        let Behind { past, work, thread } = self;
        if thread.join().is_err() || *lock(&work.state) != State::Done {
            work.extent.stop();
            return Err(Error::Failed("the scan has ended before it was through".into()));
        }
        let gathering = std::mem::take(&mut *lock(&work.gathering));
        let survey = gathering.finish(past.filesystem(), Looked::Whole);
        Ok(past.recover(&survey, progress))
    }
}

impl Stop {
    /// Ends the scan. What it found so far is in the catalog when this returns, if that does not take long.
    pub fn stop(&self) {
        self.0.wanted.store(false, Ordering::Relaxed);
        let state = lock(&self.0.state);
        let running = |state: &mut State| *state == State::Running;
        drop(self.0.changed.wait_timeout_while(state, FAREWELL, running).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Work {
    /// Enters a state, which the first one that is not running stays.
    fn become_state(&self, next: State) {
        let mut state = lock(&self.state);
        if *state == State::Running {
            *state = next;
        }
        self.changed.notify_all();
    }

    fn tell(&self, tell: impl FnOnce(&dyn Progress)) {
        let listener = lock(&self.listener).clone();
        if let Some(listener) = listener {
            tell(&*listener);
        }
    }
}

impl Progress for Work {
    fn step(&self, what: &str, done: u64, total: u64) {
        self.tell(|listener| listener.step(what, done, total));
    }

    fn scan(&self, done: u64, total: u64, pages: u64) {
        self.extent.set(done, total);
        self.tell(|listener| listener.scan(done, total, pages));
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Whether a scan that has gone on for `elapsed`, and did so many bytes in some time, will take longer than `patience` in all for the `left`
/// bytes that are to do.
fn is_too_long(patience: Duration, elapsed: Duration, (time, done): (Duration, u64), left: u64) -> bool {
    let needs = |left: u64| elapsed.as_secs_f64() + time.as_secs_f64() * left as f64 / done as f64;
    elapsed >= patience || elapsed >= MEASURED && (done == 0 || time >= MEASURED && needs(left) > patience.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_worth_it_as_long_as_it_will_not_take_long() {
        let minute = Duration::from_secs(60);
        for (elapsed, time, done, left, expected) in [
            (0, 0, 0, 1 << 40, false),
            (999, 999, 1, 1 << 40, false),
            (1000, 900, 1, 1 << 40, false),
            (1000, 1000, 1 << 30, 58 << 30, false),
            (1000, 1000, 1 << 30, 60 << 30, true),
            (1000, 0, 0, 5, true),
            (30_000, 29_000, 10, 9, false),
            (30_000, 29_000, 10, 11, true),
            (60_000, 60_000, 99, 1, true),
        ] {
            let (elapsed, time) = (Duration::from_millis(elapsed), Duration::from_millis(time));
            assert_eq!(is_too_long(minute, elapsed, (time, done), left), expected, "{elapsed:?} {done} {left}");
        }
        assert!(is_too_long(Duration::ZERO, Duration::ZERO, (Duration::ZERO, 0), 0));
    }
}
