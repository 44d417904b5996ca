//! The commands as people call them, on an image that the kernel made (`scripts/make-image tree`) and with its truth beside it.

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod copy;
mod list;
mod orphans;
mod show;
mod support;
