//! The commands as people call them, on an image that the kernel made (`scripts/make-image tree`) and with its truth beside it.

mod bad_input;
mod copy;
mod list;
mod orphans;
mod show;
mod support;
