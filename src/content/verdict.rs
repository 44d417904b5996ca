//! How well a block fits a place, in a unit that can be added up.

/// What the content says of a block at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It cannot stand there: the content before it (or its offset) asks for other bytes.
    Contradicted,
    /// It can. About one of 2^`bits` **other blocks of the same file** would fit as well; blocks of other kinds of data fit far
    /// more rarely still. With 0 bits nothing speaks for or against it. Independent evidence adds up: [`Verdict::and`].
    Fits {
        /// log2 of the odds, rounded down.
        bits: u32,
    },
}

/// Odds that must remain when all candidates are counted: of 1,024 placements called proven, about one may be wrong.
const MARGIN: u32 = 10;

impl Verdict {
    /// Nothing speaks for or against the block.
    pub const POSSIBLE: Verdict = Verdict::Fits { bits: 0 };

    /// From how many of `all` equally likely places or blocks would fit.
    pub(super) fn of(all: usize, fitting: usize) -> Verdict {
        Verdict::Fits { bits: (all / fitting.max(1)).checked_ilog2().unwrap_or(0) }
    }

    /// Both of two independent findings.
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Fits { bits: a }, Verdict::Fits { bits: b }) => Verdict::Fits { bits: a.saturating_add(b) },
            _ => Verdict::Contradicted,
        }
    }

    /// log2 of the odds; 0 where it is contradicted.
    pub const fn bits(self) -> u32 {
        match self {
            Verdict::Fits { bits } => bits,
            Verdict::Contradicted => 0,
        }
    }

    /// Whether this is proof although it was chosen from `candidates` blocks: fewer than one of 1,024 such choices is wrong.
    pub fn proves(self, candidates: u64) -> bool {
        let choice = candidates.checked_next_power_of_two().map_or(u64::BITS, u64::trailing_zeros);
        self.bits() >= choice + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds() {
        assert_eq!(Verdict::of(1024, 10), Verdict::Fits { bits: 6 });
        assert_eq!(Verdict::of(1024, 0), Verdict::Fits { bits: 10 });
        assert_eq!(Verdict::of(0, 0), Verdict::POSSIBLE);
        let ten = Verdict::Fits { bits: 10 };
        assert!(ten.proves(1) && !ten.proves(2) && ten.and(ten).proves(1024) && !ten.and(ten).proves(1025) && !ten.proves(u64::MAX));
        assert_eq!(ten.and(Verdict::Contradicted), Verdict::Contradicted);
        assert!(!Verdict::Contradicted.proves(0));
    }
}
