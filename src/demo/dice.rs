//! Dice: the randomness of the demo's traffic, made of integers alone, so that a seed gives the same rows on every machine
//! and with every version of every library.

/// A stream of numbers that follows from its seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Returns the stream of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.roll()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product fits")
    }

    /// Returns true in `parts` of a million cases.
    pub fn chance(&mut self, parts: u32) -> bool {
        self.below(1_000_000) < u64::from(parts)
    }

    /// Returns a number below `bound` that is mostly small: the square of an even share.
    pub fn mostly_small(&mut self, bound: u64) -> u64 {
        let share = u128::from(self.below(1 << 20));
        let scaled = (share * share * u128::from(bound)) >> 40;
        u64::try_from(scaled).expect("less than the bound")
    }
}

/// A choice among ranks, of which rank `r` is drawn in proportion to `1 / (r + 1)` (Zipf with exponent 1).
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each rank, ascending.
    sums: Vec<u64>,
}

impl Zipf {
    /// Returns the choice among `ranks`, at least one.
    pub fn new(ranks: u32) -> Zipf {
        let mut sum = 0;
        let weight = |rank: u32| (1_u64 << 32) / (u64::from(rank) + 1);
        let sums = (0..ranks.max(1)).map(|rank| {
            sum += weight(rank);
            sum
        });
        Zipf { sums: sums.collect() }
    }

    /// Draws a rank.
    pub fn draw(&self, dice: &mut Dice) -> u32 {
        let total = self.sums.last().copied().unwrap_or(1);
        let at = dice.below(total);
        let rank = self.sums.partition_point(|sum| *sum <= at);
        u32::try_from(rank).expect("ranks are counted in u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_comes_twice_as_often_as_the_second() {
        let zipf = Zipf::new(1000);
        let mut dice = Dice::new(3);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..200_000 {
            counts[zipf.draw(&mut dice) as usize] += 1;
        }
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(counts[999] < counts[9], "the tail is thin");
    }

    #[test]
    fn bounds_hold() {
        let mut dice = Dice::new(9);
        for bound in [1, 2, 7, 1 << 40] {
            assert!((0..1000).all(|_| dice.below(bound) < bound));
            assert!((0..1000).all(|_| dice.mostly_small(bound) < bound));
        }
        assert!(!dice.chance(0) && dice.chance(1_000_000));
    }
}
