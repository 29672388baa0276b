//! Exact division of money: no unit is lost, none is made.

/// Divides `amount` in proportion to `weights` by largest remainder.
///
/// Every share is rounded down, and the units that are left go to the largest fractions, of equal ones to the earlier. The sum of
/// the shares is `amount`, always; a negative amount is divided as its opposite. If all weights are zero there is nothing to go
/// by, and all shares are zero: the caller gives equal weights instead where that is wanted.
pub fn split(amount: i64, weights: &[u64]) -> Vec<i64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    // At most 2^63 times 2^64: it fits.
    let exact = |weight: &u64| u128::from(amount.unsigned_abs()) * u128::from(*weight);
    let mut shares: Vec<u64> = weights.iter().map(|weight| (exact(weight) / total) as u64).collect();
    let given: u64 = shares.iter().sum();
    let mut left = amount.unsigned_abs() - given;
    if left > 0 {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(exact(&weights[*at]) % total));
        for at in order {
            if left == 0 {
                break;
            }
            shares[at] += 1;
            left -= 1;
        }
    }
    let sign = amount.signum();
    // Only the share of `i64::MIN` whole does not fit as a positive number; its negation wraps to itself, which is right.
    shares.into_iter().map(|share| if sign < 0 { (share as i64).wrapping_neg() } else { share as i64 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_left_over_go_to_the_largest_fractions_then_to_the_earlier() {
        assert_eq!(split(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(split(200, &[1, 1, 1]), [67, 67, 66]);
        assert_eq!(split(10, &[1, 2, 4]), [1, 3, 6]);
        assert_eq!(split(-100, &[1, 1, 1]), [-34, -33, -33]);
    }

    #[test]
    fn nothing_is_lost_or_made() {
        let mut seed = 7_u64;
        let mut roll = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed
        };
        for _ in 0..5_000 {
            let count = (roll() >> 60) as usize + 1;
            let shift = (roll() >> 58) as u32;
            let weights: Vec<u64> = (0..count).map(|_| roll() >> shift).collect();
            let amount = roll() as i64 >> (roll() >> 58);
            if weights.iter().all(|weight| *weight == 0) {
                continue;
            }
            let shares = split(amount, &weights);
            assert_eq!(shares.iter().map(|share| i128::from(*share)).sum::<i128>(), i128::from(amount));
            let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let floor = u128::from(amount.unsigned_abs()) * u128::from(*weight) / total;
                assert!(u128::from(share.unsigned_abs()).abs_diff(floor) <= 1, "{amount} {weights:?} {shares:?}");
            }
        }
    }

    #[test]
    fn the_largest_amounts_and_weights_fit() {
        assert_eq!(split(i64::MAX, &[u64::MAX, u64::MAX]), [i64::MAX / 2 + 1, i64::MAX / 2]);
        assert_eq!(split(i64::MIN, &[u64::MAX]), [i64::MIN]);
        assert_eq!(split(5, &[0, 0]), [0, 0]);
        assert!(split(5, &[]).is_empty());
    }
}
