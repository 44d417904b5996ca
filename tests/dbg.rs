mod common;
use undelfs::image::ImageOptions;
use undelfs::units::*;
#[test]
fn dbg() {
    let r = common::recover(ImageOptions::new(std::env::var("DBG_IMG").unwrap()));
    let fs = r.filesystem();
    for b in std::env::var("DBG_BLOCKS").unwrap().split(',') {
        let b = Block::new(b.parse().unwrap()).unwrap();
        let rel = |m: Moment| m.0 as i64 - (1i64 << 32);
        println!("block {b}: alloc now {}", fs.is_allocated(b));
        for c in fs.journal().copies(b) {
            let bytes = fs.journal().read_copy(fs.image(), *c).unwrap();
            let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
            println!("  copy {} idx {}: {:?} nz {}", rel(c.moment), c.index, &words[..6], words.iter().filter(|w| **w != 0).count());
        }
        println!("  revokes {:?}", fs.journal().revokes(b).iter().map(|m| rel(*m)).collect::<Vec<_>>());
        let home = fs.read_home(b).unwrap();
        let words: Vec<u32> = home.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
        println!("  home {:?}", &words[..6]);
        let (g, bit) = fs.bit_of(b);
        let bb = fs.geometry().group(g).unwrap().block_bitmap;
        let s: Vec<_> = fs.journal().copies(bb).iter().map(|c| (rel(c.moment), undelfs::fs::test_bit(&fs.journal().read_copy(fs.image(), *c).unwrap(), bit))).collect();
        println!("  bitmap {s:?}");
    }
    for m in -2000..0i64 { if !fs.journal().covers_since(Moment(((1i64<<32)+m) as u64)) { } else { println!("covered from {m}"); break } }
    println!("tx {:?}", fs.journal().transactions().iter().map(|t| t.moment.0 as i64 - (1i64<<32)).collect::<Vec<_>>());
}
