//! Decay: a weight that halves with every half-life of age.
//!
//! In integers from end to end, so that every machine gives the same bits. The power of two is put together from its square
//! roots: for each binary digit of the fraction one root is multiplied in.

/// Binary digits behind the point.
const DIGITS: u32 = 62;

/// 2^-(1/2), 2^-(1/4), 2^-(1/8), ..., each with [`DIGITS`] digits behind the point.
const ROOTS: [u64; DIGITS as usize] = roots();

const fn roots() -> [u64; DIGITS as usize] {
    let mut roots = [0; DIGITS as usize];
    let mut root: u128 = 1 << (DIGITS - 1);
    let mut at = 0;
    while at < DIGITS as usize {
        // The root of x / 2^62 is the root of x * 2^62, over 2^62.
        root = (root << DIGITS).isqrt();
        roots[at] = root as u64;
        at += 1;
    }
    roots
}

/// Returns `max(1, round(2^32 * 2^(-age / half_life)))`: the weight of a touch of that age.
///
/// A negative age counts as none. A half-life that is not positive is taken as one millisecond.
pub fn weight(age_ms: i64, half_life_ms: i64) -> u64 {
    let half_life = half_life_ms.max(1) as u64;
    let age = age_ms.max(0) as u64;
    let (halvings, rest) = (age / half_life, age % half_life);
    if halvings > 33 {
        return 1;
    }
    let mut fraction = (u128::from(rest) << DIGITS) / u128::from(half_life);
    let mut power: u128 = 1 << DIGITS;
    while fraction > 0 {
        let digit = fraction.ilog2();
        power = (power * u128::from(ROOTS[(DIGITS - 1 - digit) as usize])) >> DIGITS;
        fraction &= !(1 << digit);
    }
    let shift = DIGITS - 32 + halvings as u32;
    (((power + (1 << (shift - 1))) >> shift) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_half_life_halves_exactly() {
        for halvings in 0..=32 {
            assert_eq!(weight(halvings * 450_000, 450_000), 1 << (32 - halvings));
        }
        assert_eq!(weight(33 * 450_000, 450_000), 1, "a half is rounded up");
        assert_eq!(weight(i64::MAX, 450_000), 1, "no touch weighs nothing");
    }

    #[test]
    fn parts_of_a_half_life_are_those_of_the_exponential() {
        // round(2^32 * 2^-x), worked out with 60 decimal digits.
        let expected = [(1, 2, 3_037_000_500), (1, 3, 3_408_917_802), (2, 3, 2_705_659_852), (1, 10, 4_007_346_185)];
        for (age, half_life, weighs) in expected {
            assert_eq!(weight(age, half_life), weighs, "2^-({age}/{half_life})");
        }
    }

    #[test]
    fn it_agrees_with_floating_point_and_never_grows() {
        let mut before = u64::MAX;
        for age in (0..20_000_000).step_by(9_973) {
            let exact = ((-(age as f64) / 604_800.0).exp2() * 4_294_967_296.0).max(1.0);
            let weighs = weight(age, 604_800);
            assert!((weighs as f64 - exact).abs() <= 0.51 + exact * 1e-12, "{age}: {weighs} {exact}");
            assert!(weighs <= before);
            before = weighs;
        }
    }

    #[test]
    fn nothing_is_out_of_range() {
        assert_eq!(weight(-5, 10), 1 << 32);
        assert_eq!(weight(0, 0), 1 << 32);
        assert_eq!(weight(i64::MAX, i64::MAX), 1 << 31);
        assert_eq!(weight(1, i64::MIN), 1 << 31);
    }
}
