use undelfs::image::{Image, ImageOptions};
fn main() {
    let image = Image::open(&ImageOptions::new(std::env::args().nth(1).unwrap())).unwrap();
    let fs = undelfs::fs::Filesystem::open(image, None, None).unwrap();
    let t = std::time::Instant::now();
    let s = undelfs::scan::Survey::make(&fs, &());
    println!("{} pages {} written {:?}", s.pages.len(), s.written.len(), t.elapsed());
    let c = undelfs::forest::grow(&fs, &s, &Default::default());
    for c in &c {
        println!("chain top {} tables {} refused {:?} sparse {}", c.top(&s).unwrap().block, c.tables.len(), c.refused, c.sparse);
        for t in c.tables.iter().take(5) {
            let p = &s.pages[t.page];
            println!(
                "   L{} {} at {} first {} last {} n {} breaks {} holes {} {:?}",
                t.level,
                t.first.0,
                p.block,
                p.first,
                p.last,
                p.count,
                p.breaks,
                p.holes(),
                p.sources
            )
        }
    }
    println!("{:?}", t.elapsed());
}
