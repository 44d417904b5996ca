//! The only module with `unsafe`: a memory map that nobody dereferences, and signals that are waited for.
#![allow(unsafe_code)]

use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::io;

/// A read-only memory map of an image. Its bytes are only ever handed on to the kernel, which answers `EFAULT` where a page cannot
/// be had. User space must not look at them: when the image shrinks or the medium fails, the first touch would be a SIGBUS.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps the first `len` bytes of `file`, advised `MADV_RANDOM`: the default reads around each fault, and an image is read at
    /// random places.
    ///
    /// # Errors
    /// The system's word where the file or device cannot be mapped.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to this type, which gives its bytes out for nothing but `writev`, so that no code
        // of ours depends on them staying the same while a slice of them lives.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        map.advise(Advice::Random)?;
        Ok(Self(map))
    }

    /// The bytes from `offset` on, for a system call to read and for nothing else; `None` beyond the map.
    pub fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.0.get(offset..offset.checked_add(len)?)
    }

    /// Starts reading these bytes in from the medium, without waiting (`MADV_WILLNEED`). Says nothing where that cannot be done.
    pub fn will_need(&self, offset: usize, len: usize) {
        if self.slice(offset, len).is_some()
            && let Err(error) = self.0.advise_range(Advice::WillNeed, offset, len)
        {
            log::debug!("madvise(MADV_WILLNEED) at {offset}: {error}");
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP, blocked in this thread and in every thread that it starts from now on, so that they only wake
/// [`TerminationSignals::wait`]. Those that this process was started to ignore, as by `nohup`, stay ignored.
pub struct TerminationSignals(libc::sigset_t);

impl TerminationSignals {
    /// Blocks them. To be called before other threads start: one that does not block them would be killed, and all the others with it.
    ///
    /// # Errors
    /// The system's word.
    pub fn block() -> io::Result<Self> {
        // SAFETY: `sigset_t` and `sigaction` are plain data for which zeros are a value (`sigemptyset` makes it the right one). All
        // pointers are valid for the call they are given to, and none is kept.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut action);
                // A blocked signal is kept even if it is ignored, so one that nobody wants to hear must not be blocked.
                if action.sa_sigaction != libc::SIG_IGN {
                    libc::sigaddset(&mut set, signal);
                }
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Waits for the next of them and returns its number.
    ///
    /// # Errors
    /// The system's word.
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call, and the set was filled in by `block`.
        let error = unsafe { libc::sigwait(&self.0, &mut signal) };
        if error == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}
