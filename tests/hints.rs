//! What the user knows of a lost file: put to the chain that it fits, and not obeyed where the evidence says otherwise.

mod common;

use common::{image, old_ext3, truth};
use std::path::Path;
use undelfs::image::ImageOptions;
use undelfs::recover::{Hint, OpenOptions, Recovery, SizeFrom, Time};
use undelfs::run::Evidence;

fn with(name: &str, hints: &[Hint]) -> Recovery {
    let options = OpenOptions { hints: hints.to_vec(), ..OpenOptions::new(ImageOptions::new(image(name, &[]))) };
    Recovery::open(&options, &()).expect("the image opens")
}

fn hint(path: &str, size: Option<u64>) -> Hint {
    Hint { path: Some(path.as_bytes().to_vec()), size, ..Hint::default() }
}

/// Four files were lost together, of which nothing but their chains is left: each hint finds its own by its size.
#[test]
fn sizes_tell_chains_apart() {
    let (truth, _) = truth::read(&image("four", &[]));
    let hints: Vec<Hint> = truth.lost.iter().map(|life| hint(&life.path, Some(life.size))).collect();
    let recovery = with("four", &hints);
    assert_eq!(recovery.remarks(), [""; 0]);
    for life in &truth.lost {
        let named = |file: &&undelfs::recover::LostFile| file.paths == [life.path.as_bytes()];
        let found: Vec<_> = recovery.files().iter().filter(named).collect();
        let [file] = found[..] else { panic!("{}: {} files", life.path, found.len()) };
        assert_eq!((file.size, file.size_from), (life.size, SizeFrom::Hint), "{}", life.path);
        assert_eq!(file.tally.missing(), 0, "{}: whole", life.path);
    }
}

#[test]
fn what_contradicts_the_evidence_is_not_obeyed() {
    let (truth, _) = truth::read(&image("wrapped", &[]));
    let life = &truth.lost[0];
    let day = |seconds: i64| Time { seconds, nanos: 0 };
    let long_ago = Hint { deleted: Some((day(0), day(86_399))), ..hint("/was.MYD", None) };
    for (hint, why) in [(hint("/was.MYD", Some(life.size - 5_000_000)), "pointers name blocks"), (long_ago, "it was lost")] {
        let recovery = with("wrapped", &[hint]);
        let [remark] = recovery.remarks() else { panic!("{:?}", recovery.remarks()) };
        assert!(remark.contains("path=/was.MYD") && remark.contains("not obeyed") && remark.contains(why), "{remark}");
        let file = &recovery.files()[0];
        assert!(file.paths.is_empty() && file.size == life.size, "{:?} {}", file.paths, file.size);
    }
    let recovery = with("wrapped", &[hint("/mysql/lost.MYD", Some(life.size))]);
    assert_eq!(recovery.remarks(), [""; 0]);
    assert_eq!(recovery.files()[0].paths, [b"/mysql/lost.MYD"]);
}

/// Without size nothing tells the four apart.
#[test]
fn what_fits_several_is_said() {
    let recovery = with("four", &[hint("/srv/a.MYD", None)]);
    assert!(recovery.remarks()[0].contains("several chains fit it equally well"), "{:?}", recovery.remarks());
    assert!(recovery.files().iter().all(|file| file.paths.is_empty()));
}

/// Rows and keys of a table, of sizes that the user remembers roughly, and in any order: what their content is tells which is which.
#[test]
fn content_tells_rows_from_keys() {
    let (truth, _) = truth::read(&image("myisam-deleted", &[]));
    for order in [[".MYD", ".MYI"], [".MYI", ".MYD"]] {
        let hints = order.map(|ext| hint(&format!("/mysql/mail/messages{ext}"), (ext == ".MYD").then_some(151_000_000)));
        let recovery = with("myisam-deleted", &hints);
        assert_eq!(recovery.remarks(), [""; 0]);
        for life in &truth.lost {
            let file = recovery.files().iter().find(|file| file.paths == [life.path.as_bytes()]).expect("it is named");
            let blocks = |size: u64| size.div_ceil(truth.block_size);
            assert_eq!((blocks(file.size), file.tally.missing()), (blocks(life.size), 0), "{}", life.path);
        }
    }
}

/// Whoever knows that nothing was written since gets what is withheld for doubt, as inferred.
#[test]
fn the_users_word_that_nothing_was_written() {
    let doubtful = old_ext3::bundle("3_wrapped_k2.6.32_i128").image;
    let bytes = |image: &Path, still: bool| {
        let options = OpenOptions { still, ..OpenOptions::new(ImageOptions::new(image.to_owned())) };
        let recovery = Recovery::open(&options, &()).expect("the image opens");
        let mut bytes = [0; 7];
        recovery.files().iter().for_each(|file| Evidence::ALL.iter().for_each(|word| bytes[*word as usize] += file.tally.of(*word)));
        bytes
    };
    for image in [&doubtful, &image("churn", &[])] {
        let (without, with) = (bytes(image, false), bytes(image, true));
        let gained = |word: Evidence| with[word as usize].cast_signed() - without[word as usize].cast_signed();
        // Where the journal vouches for all of churn, nothing is withheld.
        let least = i64::from(*image == doubtful);
        assert!(gained(Evidence::Inferred) >= least && -gained(Evidence::Unknown) >= least, "{without:?}, {with:?}");
        assert_eq!((gained(Evidence::Journal), gained(Evidence::Chain)), (0, 0), "{without:?}, {with:?}");
    }
}
