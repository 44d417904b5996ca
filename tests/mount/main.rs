//! The mount as programs meet it, on images that the kernel made (`scripts/make-image`) and with their truth beside them. Needs root,
//! `/dev/fuse` and fuse3; without them it fails, since a mount that was not tried is not known to work.

mod background;
#[path = "../common/mod.rs"]
mod common;
mod contents;
mod lifecycle;
mod orphans;
mod refusals;
mod support;
mod users;
